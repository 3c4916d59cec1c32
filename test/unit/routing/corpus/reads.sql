select 1

SELECT

select 1;

  ;; select 1 ;;

select 1; select 2; values (3)

select * from t

select a, b as "B", t.c, "T"."d", s.t.e from s.t where a = 1 and b <> 'x' or not c

table t

table only s.t

values (1, 'a'), (2, 'b')

(select 1)

((select 1) union all (select 2)) order by 1 limit 1

(values (1)) union (table t)

select 1 union select 2 intersect select 3 except all select 4

with a as (select 1) select * from a

with recursive a(n) as (select 1 union all select n + 1 from a where n < 10) select * from a

with a (x, y) as (values (1, 2)), b (z) as not materialized (select x from a), "C" ("q") as materialized (table b) select * from "C"

with a as (with b as (select 1 as x) select x from b) table a

with recursive g(id, link) as (select 1, 2 union all select g.id, g.link from g, graph where g.id = graph.link) search depth first by id, link set ordercol select * from g order by ordercol

with recursive g(id, link) as (select 1, 2 union all select g.id, g.link from g) cycle id set is_cycle to true default false using path select * from g

select count(*), sum(x), avg(x::numeric(10, 2)), min(x), max(x) from t group by y having count(*) > 1

select count(distinct a), array_agg(a order by b desc nulls last), string_agg(a, ',' order by a) from t

select percentile_cont(0.5) within group (order by x) filter (where x > 0) from t

select row_number() over (partition by a order by b), rank() over w, lag(x, 1) over (order by y rows between 1 preceding and current row exclude ties) from t window w as (partition by (a), b order by c)

select a, b, grouping(a, b), count(*) from t group by grouping sets ((a), (b), ()), rollup (a, b), cube (a, (b, c))

select distinct on (a, lower(b)) a, b from t order by a, lower(b), c desc

select distinct on (a) lower(b) from t

select all lower(a) from t

select case when a > 1 then 'x' when b in (1, 2) then (select 'y') else coalesce(c, 'z') end from t

select case a when 1 then lower(b) else upper(b) end as "case" from t

select nullif(a, b), greatest(a, b), least(a, b), coalesce(a, (b)), row(1, 2), array[1, 2], array(select 1), (1, 2) = row(1, 2) from t

select exists (select 1 from t), a = any (array[1, 2]), a > all (select 1), a in (select b from u), a not in (1, 2), a = some (array[1])

select extract(year from now()), extract(epoch from ts), date_trunc('day', ts), ts at time zone 'UTC', ts at time zone (select zone from z) from t

select position('a' in b), substring(a from 1 for 2), substring(a, 1, 2), substring(a similar 'x' escape '#'), overlay(a placing 'x' from 1 for 2), trim(both 'x' from a), trim(leading from a), trim(a), btrim(a) from t

select cast(a as numeric(10, 2)), a::varchar(20), a::timestamp(3) with time zone, a::decimal(5), interval '1 day', interval(3) '1 second', date '2020-01-01', timestamp with time zone '2020-01-01', time '10:00', bit(3) '101', float8 '1.5', a::double precision, a::character varying(10), a::char(3), a::bit varying(8)

select a::s.mytype, cast(b as "My Type"), c::int[], d::text[][], e::int array[3], cast(f as interval day to second(3))

select current_date, current_time(0), current_timestamp, localtime, localtimestamp(3), current_user, session_user, user, current_role, current_catalog, current_schema, current_schema(), current_schemas(true)

select a like 'x%', a ilike ('%' || b), a not like ('x') escape '#', a similar to 'x', a ~ 'x', a !~* 'y', a between 1 and 2, a between symmetric (1) and (2), a is null, a is not distinct from b, a isnull, b notnull, a is true from t

select (a, b) overlaps (c, d), (a).b, (t.*).x, (select (x).y), a[1], a[1:2], a[:], (array[1,2])[1], b->'x'->>'y', b #>> '{a,b}', b @> '{"a":1}', b ? 'x', b ?| array['x'], c @@ to_tsquery('a & b') from t

select a operator(pg_catalog.+) b, a operator(pg_catalog.=) lower(c), @ -5, |/ 4, 2 ^ 3, 5 % 2, ~1, 1 << 2, 1#3 from t

select collation for ('x'), a collate "C", b collate pg_catalog."de_DE" from t order by a collate "C" using <, b nulls first

select * from a join b on a.x = b.x left join c using (y) right outer join d on true full join e using (z) as j cross join f natural join g

select * from a join (select 1 as x) b on (a.x = b.x) left join (b join c on (true)) on (false)

select * from a, lateral (select * from b where b.x = a.x) l(x, y), lateral generate_series(1, 3) g

select * from generate_series(1, 10) as g(n), unnest(array[1,2], array[3,4]) with ordinality as u(a, b, o), rows from (generate_series(1, 2), unnest(array[1])) with ordinality x(p, q, r)

select * from generate_series(1, 10) g(n) where n > 5

select * from json_to_recordset('[{"a":1}]') as x(a int, b text)

select * from t tablesample bernoulli (10) repeatable (1), u tablesample system (5)

select * from only t, only (u), v * where true

select * from t order by 1, a desc, lower(b) limit 10 offset 20

select * from t limit all offset 5 rows

select * from t order by a fetch first 5 rows with ties

select * from t fetch first (2 + 3) rows only offset 1 row

select * from t for read only

select 'it''s', '', 'a
b', E'a\'b\\', e'\x41', U&'d\0061t', B'101', X'1F', n'x', $$a'b$$, $tag$ $$ ; delete from t $tag$, $_1$x$_1$

select 'a'
  'b', 'c'
'd'

select "a""b", "select", "insert into t", "for update"

select 1 -- ; delete from t

select 1 /* ; delete from t */ + /* nested /* comment ' */ " */ 2

select 1 --
, 2

-- leading comment
select 1

/* a */ -- b
/* c */ select 1 /* d */ ; -- e

/*+ SeqScan(t) */ select * from t

select/**/1,a/*x*/from/*y*/t

select 1*/**/2

select 1+--x
2

select $1, $2::int, a = $3 from t where b = any($4::text[]) limit $5

select 1.5, .5, 5., 1e10, 1.5e-3, 1E+2, 0x1F, 0b101, 0o17, 1_000

select ünï, "ünï", 'ünï' from täble where 日本 = '語'

select a.insert, a.update, t.delete, t."into", x.for from t a

select 1 as update, 2 as insert, 3 as "for", 4 as into

select id as select, t.table from t

show search_path

show my.own_setting

show time zone

show transaction isolation level

show session authorization

show timezone; show client_encoding

show server_version

show "DateStyle"

explain select 1

explain analyze select * from t

explain analyze verbose select * from t

explain verbose table t

explain (analyze, buffers, format json) select * from t

explain (analyze false, costs off, timing 0) with a as (select 1) select * from a

explain (select 1)

explain ((select 1) union (select 2))

explain (values (1))

explain values (1)

copy t to stdout

copy s.t (a, b) to stdout with (format csv, header true, force_quote (a, b), null '')

copy t to stdout csv header

copy binary t to stdout

copy "T"("a") to stdout

copy (select * from t) to stdout

copy (select lower(a) from t where b = 'x;y') to stdout (format binary)

copy (values (1)) to stdout

copy (table t) to stdout with delimiter ';' null 'x'

copy (with a as (select 1) select * from a) to stdout

copy ((select 1) union (select 2)) to stdout

select now(), statement_timestamp(), clock_timestamp(), random(), gen_random_uuid(), version(), pg_sleep(0)

select pg_catalog.now(), pg_catalog.lower('X'), "lower"('X'), pg_catalog."upper"('x')

select inet_server_port(), inet_server_addr()

select current_setting('search_path'), current_setting('x.y', true)

select c.relname, n.nspname, pg_get_expr(d.adbin, d.adrelid), format_type(a.atttypid, a.atttypmod), obj_description(c.oid, 'pg_class'), col_description(c.oid, 1) from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid left join pg_attrdef d on (d.adrelid = c.oid and d.adnum = a.attnum) where c.relkind in ('r', 'v') and pg_table_is_visible(c.oid) and not a.attisdropped

select * from information_schema.tables where table_schema = 'public'

select has_table_privilege('t', 'insert'), has_schema_privilege(current_user, 'x', 'create')

select xmlelement(name foo, xmlattributes(a as b), c), xmlforest(a, b as c), xmlconcat(a, b), xmlparse(document '<a/>'), xmlpi(name foo), xmlroot(x, version '1.0'), xmlserialize(content a as text), xmlexists('//a' passing by ref b) from t

select * from t, xmltable('/a' passing x columns id int path '@id', n for ordinality) as y(a, b)

select json_object('a': 1, 'b' value 2 absent on null), json_array(1, 2, null null on null), json_arrayagg(a order by b), json_objectagg(k: v with unique keys) from t

select * from json_table('{}', '$[*]' columns (id int path '$.id', nested path '$.x[*]' columns (y text path '$.y'))) as jt

select json_value(j, '$.a' returning int default 1 on empty), json_query(j, '$.b' with wrapper), json_exists(j, '$.c'), j is json object from t

select jsonb_path_query(j, '$.a[*] ? (@ > 1)'), jsonb_build_object('a', 1), to_json(t), row_to_json(t.*), jsonb_agg(t) from t

select a from t where (a, b) in (select 1, 2) and (c or (d and (e or (f))))

select array[[1,2],[3,4]], array[]::int[], '{1,2}'::int[], (array_agg(a))[1:2] from t

select variadic_test.x, concat(variadic array['a', 'b']), format('%s', variadic array[1]), make_interval(days => 1), make_date(year := 2020, month := 1, day := 1) from variadic_test

select left('abc', 1), right('abc', 1), "left"('abc', 2), "char"(65), text(1), name('x'), int4(1.5), float8(1), date(now()), timestamptz(now())

select (with a as (select 1) select * from a), (values (1)), (table t)

select * from (values (1, 'a'), (2, 'b')) as v(id, name) where v.id in (values (1))

select * from (values (1)) v (id)

select * from (select 1) as "X" ("a")

select * from ((select 1) union (select 2)) u (x) order by x

select count(*) filter (where a = 1) over (partition by b) from t

select sum(a) over () from t

select nth_value(a, 2) over (order by b groups between unbounded preceding and 1 following) from t

select * from t where ctid = '(0,1)' and xmin::text = '1' and tableoid = 't'::regclass

select 't'::regclass, to_regclass('x'), 'f(int)'::regprocedure, 1::oid::regclass

select a from t where a > now() - interval '1 day' and b < current_date - 7 and c = date '2020-01-01' + 1

select make_timestamptz(2020, 1, 1, 0, 0, 0), age(ts), to_char(ts, 'YYYY'), to_timestamp(1), date_part('x', ts), justify_days(i) from t

select md5('x'), encode('x', 'base64'), decode('x', 'hex'), sha256('x'), length(a), char_length(a), bit_length(a), octet_length(a), reverse(a), repeat(a, 2), replace(a, 'b', 'c'), split_part(a, ',', 1), regexp_replace(a, 'x', 'y', 'g'), regexp_matches(a, 'x'), translate(a, 'x', 'y'), ascii(a), chr(65), initcap(a), lpad(a, 5), quote_ident(a), quote_literal(a), starts_with(a, 'x'), strpos(a, 'b'), to_hex(1) from t

select abs(-1), ceil(1.5), floor(1.5), round(1.55, 1), trunc(1.5), mod(5, 2), power(2, 3), sqrt(4), ln(1), log(10), exp(1), sign(-1), pi(), div(5, 2), gcd(4, 6), width_bucket(1, 2, 3, 4) from t

select int4range(1, 5), lower(r), upper(r), r && s, isempty(r), range_merge(r, s), range_agg(r) from t

select point(1, 2), box(p, q), circle(p, 1), p <-> q from t

select ts_rank(v, q), ts_headline('x', q), plainto_tsquery('x'), websearch_to_tsquery('x'), to_tsvector('english', a), setweight(v, 'A') from t

select pg_get_viewdef('v'::regclass), pg_get_indexdef(1), pg_get_constraintdef(1), pg_get_functiondef(1), pg_get_serial_sequence('t', 'a'), pg_encoding_to_char(6), pg_get_userbyid(1), pg_typeof(1), pg_column_size(1)

select * from pg_catalog.pg_stats where tablename = 't'

select s.* from s as s (a, b)

select exists(select * from t where t.delete = 1)

select * from t where note = 'insert into x values (1); drop table t; --'

select $a$ for update $a$ as for_update, 'for update' as x

select 1 as a where 1=1 and -1<2 and 1>-1 and 1!=2 and 1<>2 and 1<=2 and 2>=1

select a::int::text::varchar(10)::"char" from t

select t.a::numeric(10,2), (b)::s.t(1) from t

select not exists (select 1), not (true), not lower(a) = 'x' from t

select unnest(array(select lower(x) from t)), (select array(select 1))

select lower(a)lower, upper(b)up from t

select interval '1' day, interval '1-2' year to month, '1'::interval hour to minute

select cast(a as s.geometry(1, 2)), b::"S"."Geo"(3) from t

explain (values off) select 1
