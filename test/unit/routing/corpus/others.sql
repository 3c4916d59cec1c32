select * from t for update

select * from t for no key update nowait

select * from t for share skip locked

select * from t for key share of t

select * from (select * from t for update) x

with a as (select * from t for update) select * from a

(select * from t) for update

select * from t where a in (select b from u for share)

select 1 into x

select * into temp x from t

select * into temporary table x from t

select * into unlogged x from t

select a into local temp x from t

(select 1 into temp x)

with a as (insert into t values (1) returning *) select * from a

with a as (update t set x = 1 returning *) select * from a

with a as (delete from t returning *) select * from a

with a as (merge into t using u on (t.a = u.a) when matched then delete returning t.*) select * from a

with a as (select 1), b as (select 2), c as materialized (delete from t returning *) select * from a, b, c

select * from (with a as (delete from t returning *) select * from a) x

with a as (with b as (delete from t returning 1) select * from b) select * from a

with a as (select 1) insert into t select * from a

with a as (select 1) update t set x = 1 from a

with a as (select 1) delete from t using a

with a as (select 1) merge into t using a on true when matched then do nothing

with recursive a(n) as (select 1) delete from t where x in (select n from a)

insert into t values (1)

insert into s.t (a, b) values (1, lower('X')), (2, default) on conflict (a) do update set b = excluded.b where t.b <> 'x' returning *

insert into t as x (a) select b from u on conflict do nothing

insert into t default values

update t set a = 1, (b, c) = (select 1, 2) where id = 1 returning *

update only t as x set a = default from u where x.id = u.id

delete from t where id = 1

delete from only s.t using u where t.id = u.id returning t.*

merge into t using (select 1 as a) s on t.a = s.a when matched and t.b > 1 then update set b = 2 when not matched then insert (a, b) values (s.a, 1)

truncate t, u restart identity cascade

explain insert into t values (1)

explain analyze delete from t

explain (analyze) update t set a = 1

explain (analyze) with a as (delete from t returning *) select * from a

explain analyze select * from t for update

explain execute foo(1)

explain analyze create table x as select 1

explain declare c cursor for select 1

copy t from stdin

copy t (a, b) from stdin with (format csv)

copy t from '/tmp/x'

copy t to '/tmp/x'

copy t to program 'cat > /tmp/x'

copy t from program 'cat'

copy (select 1) to '/tmp/x'

copy (select 1) to program 'cat'

copy (insert into t values (1) returning *) to stdout

copy (delete from t returning *) to stdout

copy (update t set a = 1 returning *) to stdout

copy (select * from t for update) to stdout

copy (select nextval('s')) to stdout

copy (with a as (delete from t returning *) select * from a) to stdout

copy t from stdin where lower(a) = 'x'

select nextval('s')

select pg_catalog.nextval('s'), setval('s', 1), currval('s'), lastval()

select "nextval"('s')

select (select nextval('s'))

select * from t where a = nextval('s')

select * from nextval('s')

select * from lateral nextval('s') n

select * from rows from (nextval('s')) x

select distinct on (a) nextval('s') from t

select a operator(pg_catalog.+) nextval('s') from t

select case when true then nextval('s') end

values (nextval('s'))

select 1 order by nextval('s')

select 1 limit nextval('s')

select set_config('search_path', 'x', false)

select pg_advisory_lock(1), pg_try_advisory_lock(1, 2), pg_advisory_xact_lock(1), pg_advisory_unlock(1), pg_advisory_unlock_all()

select pg_notify('a', 'b')

select lo_create(0), lo_import('/x'), lo_unlink(1), lo_get(1)

select pg_terminate_backend(1), pg_cancel_backend(1), pg_reload_conf()

select pg_read_file('/etc/passwd'), pg_ls_dir('.')

select dblink('x', 'y')

select query_to_xml('delete from t', true, false, '')

select ts_stat('select 1')

select audit()

select public.audit(1), "public"."audit"(2)

select "Audit"()

select AUDIT()

select audit /* c */ (1)

select audit -- c
(1)

select U&"audit"(1)

select U&"\0061udit"(1)

select public.select(1)

select * from audit(1) as x(a int)

select * from t, audit(1) as x(a int, b text)

select 1, audit(1) as "x"

select a.over(1), b.join(2)

select treat(a as audit)

select setseed(0.5)

select txid_current(), pg_current_xact_id()

select pg_relation_size('t')

select * from pg_locks

select * from pg_catalog.pg_stat_activity

select * from "pg_stat_replication"

select pg_is_in_recovery()

select pg_backend_pid()

select * from pg_prepared_xacts

select * from pg_settings

select pg_last_wal_replay_lsn(), pg_current_wal_lsn()

select current_setting('transaction_read_only')

show transaction_read_only

show in_hot_standby

show all

table pg_locks

copy pg_stat_activity to stdout

select 1; delete from t

delete from t; select 1

select 1; begin; select 2; commit

begin; select 1

do $$ begin delete from t; end $$

do language plpgsql 'begin end'

call p(1, 2)

lock table t in access exclusive mode

create table t (a int primary key, b text default 'x' check (length(b) > 0), c int references u (a))

create table t as select nextval('s')

create unlogged table t (a int)

create temp table t (a int)

create temporary table if not exists t (a int) on commit preserve rows

create temp table t (a int) on commit drop

create local temp table t as select 1

create temp view v as select 1

create or replace temp view v as select 1

create temp recursive view v (a) as select 1

create temp sequence s

create table pg_temp.t (a int)

create view v as select * from t

create materialized view m as select 1

create index concurrently if not exists i on t using gin (lower(a) gin_trgm_ops) where a is not null

create unique index on t (a, (b || c)) include (d)

create function f(a int) returns int language sql as $$ select 1; delete from t $$

create function f() returns int language sql begin atomic select 1; select case when true then 1 else 2 end; end

create or replace function f() returns int begin atomic delete from t; end; select 1

create procedure p() begin atomic insert into t values (1); end; delete from t; select 1

create rule r as on insert to t do instead (delete from u; update v set a = 1)

create rule r as on insert to t do also (select 1; select 2); select 3

create trigger g before insert on t for each row execute function f()

create schema s create table t (a int) create view v as select 1

create extension if not exists hstore

create sequence s start 1 increment 2

create type e as enum ('a', 'b')

create domain d as int check (value > 0)

create role r with login password 'x'

create database d

create policy p on t using (a = current_user)

create publication p for all tables

alter table t add column b int default 1, alter column c type text using c::text

alter table t rename to u

alter system set work_mem = '1MB'

alter role r set search_path = x

alter sequence s restart

drop table if exists a, s.b, "C" cascade

drop view v

drop index concurrently i

drop function f(int)

grant select on t to r

revoke all on t from r

comment on table t is 'x'

analyze t

vacuum (full, analyze) t

reindex table t

cluster t using i

refresh materialized view concurrently m

checkpoint

security label on table t is 'x'

import foreign schema s from server f into u

reassign owned by a to b

notify c, 'p'

listen c

unlisten c

unlisten *

load 'x'

prepare p (int) as select $1

prepare p as insert into t values ($1)

execute p(1)

deallocate p

deallocate prepare all

declare c cursor for select 1

declare c binary no scroll cursor with hold for select 1

fetch next from c

fetch all c

move forward 10 in c

close c

close all

begin

begin work

begin transaction isolation level serializable, read only, deferrable

begin read write not deferrable

start transaction isolation level repeatable read

start transaction read only

commit

commit work and chain

commit and no chain

end

end transaction

rollback

rollback work and chain

abort

savepoint a

rollback to a

rollback work to savepoint "B"

release a

release savepoint a

prepare transaction 'x'

commit prepared 'x'

rollback prepared 'x'

set x.y to 'z'

set search_path to a, "B", 'c'

set search_path = ''

set work_mem = '64MB'

set session work_mem to 1024

set local statement_timeout = 100

set extra_float_digits = -1

set extra_float_digits=+1

set enable_seqscan to off

set enable_seqscan to true

set time zone 'UTC'

set time zone utc

set time zone -7

set time zone local

set time zone default

set time zone interval '-08:00' hour to minute

set local time zone 'UTC'

set names 'UTF8'

set names

set names default

set schema 'x'

set role r

set role 'r'

set role none

set local role "R"

set session authorization x

set session authorization default

set session session authorization 'x'

set local session authorization x

set session characteristics as transaction isolation level repeatable read

set session characteristics as transaction read only

set session characteristics as transaction isolation level serializable, read only, deferrable

set transaction isolation level serializable

set transaction read only, isolation level repeatable read

set transaction snapshot '00000003-0000001B-1'

set local transaction read write

set xml option document

set constraints all deferred

set constraints a, b immediate

set search_path to default

set "TimeZone" = 'UTC'

set DateStyle to ISO, DMY

set transaction_read_only = on

set transaction_isolation to 'repeatable read'

set default_transaction_isolation to 'serializable'

set pgsteer.route = replica

set a to 1; set b to 2; reset c

reset search_path

reset all

reset time zone

reset session authorization

reset role

reset "Work_Mem"

discard all

discard temp

discard temporary

discard plans

discard sequences

select * from t, audit(b) as (x int)

select * from t, audit(b) as (x int, y text)

select * from t, audit(b) as (values int)

select * from t, audit(b) as (merge int)

select E'a'
'\'' || audit(1) --'

select * from U&"pg\005flocks"

select * from t where a = any (array[1]) and audit(1) > 0 or (b) is null

select (select 1) + s.audit(1)

select t.as into x from t

select 1 as as into x

select 1 as as into temp x

select * from t where t.as for update

select a.as, audit(1) as as from t

with a as (select t.as from t for share) select * from a
