SELECT "users".* FROM "users" WHERE "users"."id" = $1 LIMIT $2

SELECT 1 AS one FROM "users" WHERE "users"."email" = $1 LIMIT $2

SELECT COUNT(*) FROM "posts" INNER JOIN "users" ON "users"."id" = "posts"."user_id" WHERE "users"."active" = TRUE

SELECT "posts"."id" AS t0_r0, "posts"."title" AS t0_r1, "comments"."id" AS t1_r0 FROM "posts" LEFT OUTER JOIN "comments" ON "comments"."post_id" = "posts"."id" WHERE "posts"."created_at" BETWEEN $1 AND $2 ORDER BY "posts"."created_at" DESC, "posts"."id" ASC

SELECT DISTINCT "users"."id", "users"."created_at" AS alias_0 FROM "users" ORDER BY "users"."created_at" DESC LIMIT 10 OFFSET 20

INSERT INTO "users" ("name", "email", "created_at", "updated_at") VALUES ($1, $2, $3, $4) RETURNING "id"

UPDATE "users" SET "name" = $1, "updated_at" = $2 WHERE "users"."id" = $3

DELETE FROM "users" WHERE "users"."id" = $1

SELECT "users".* FROM "users" WHERE "users"."id" = $1 LIMIT $2 FOR UPDATE

SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod, c.collname, col_description(a.attrelid, a.attnum) AS comment, a.attidentity AS identity, a.attgenerated as attgenerated FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum LEFT JOIN pg_type t ON a.atttypid = t.oid LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation WHERE a.attrelid = '"users"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum

SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype, t.typbasetype FROM pg_type as t LEFT JOIN pg_range as r ON oid = rngtypid WHERE t.typname IN ('int2', 'int4') OR t.typtype IN ('r', 'e', 'd') OR t.typelem IN (16, 17)

SELECT pg_try_advisory_lock(8115138021376154)

SELECT pg_advisory_unlock(8115138021376154)

SET client_min_messages TO 'warning'

SET standard_conforming_strings = on

SET SESSION timezone TO 'UTC'

SHOW max_identifier_length

SELECT c.relname FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY (current_schemas(false)) AND c.relkind IN ('r','v','m','p','f')

WITH RECURSIVE tree AS (SELECT id, parent_id, 0 AS depth FROM nodes WHERE parent_id IS NULL UNION ALL SELECT n.id, n.parent_id, tree.depth + 1 FROM nodes n JOIN tree ON tree.id = n.parent_id) SELECT * FROM tree

select u1_0.id,u1_0.active,u1_0.email,u1_0.name from users u1_0 where u1_0.id=$1

select u1_0.id,u1_0.email,r1_0.user_id,r1_1.id,r1_1.name from users u1_0 left join (user_roles r1_0 join roles r1_1 on r1_1.id=r1_0.role_id) on u1_0.id=r1_0.user_id where u1_0.email=$1

select nextval ('hibernate_sequence')

select nextval('users_seq')

insert into users (active,email,name,id) values ($1,$2,$3,$4)

select u1_0.id from users u1_0 where u1_0.id=$1 for no key update

select p1_0.id,p1_0.title from posts p1_0 where lower(p1_0.title) like $1 escape '' order by p1_0.id offset $2 rows fetch first $3 rows only

select count(p1_0.id) from posts p1_0 where p1_0.created_at>=cast($1 as timestamp) and upper(p1_0.title) like upper(('%'||$2||'%')) escape '\'

SELECT "django_session"."session_key", "django_session"."session_data", "django_session"."expire_date" FROM "django_session" WHERE ("django_session"."expire_date" > '2024-01-01T00:00:00+00:00'::timestamptz AND "django_session"."session_key" = 'abc') LIMIT 21

SELECT "auth_user"."id", "auth_user"."password" FROM "auth_user" WHERE UPPER("auth_user"."username"::text) = UPPER('X') ORDER BY "auth_user"."id" ASC LIMIT 1

SELECT COUNT(*) AS "__count" FROM "polls_question" WHERE EXTRACT(YEAR FROM "polls_question"."pub_date" AT TIME ZONE 'UTC') = 2024

SELECT (1) AS "a" FROM "polls_choice" WHERE "polls_choice"."question_id" = 1 LIMIT 1

SELECT "t"."id", CASE WHEN "t"."x" IS NOT NULL THEN 1 ELSE 0 END AS "has_x", COALESCE(SUM("t"."y") FILTER (WHERE "t"."z" > 0), 0) AS "total" FROM "t" GROUP BY "t"."id", 2 HAVING COUNT("t"."id") > 1

SELECT EXISTS(SELECT 1 AS "a" FROM "x" U0 WHERE (U0."y" = ("z"."id")) LIMIT 1) AS "e" FROM "z"

DECLARE "_django_curs_140_sync_1" NO SCROLL CURSOR WITHOUT HOLD FOR SELECT "t"."id" FROM "t"

SAVEPOINT "s140_x1"

RELEASE SAVEPOINT "s140_x1"

ROLLBACK TO SAVEPOINT "s140_x1"

SELECT c.relname, CASE WHEN c.relispartition THEN 'p' WHEN c.relkind IN ('m', 'v') THEN 'v' ELSE 't' END, obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND pg_catalog.pg_table_is_visible(c.oid)

SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED

SELECT "public"."User"."id", "public"."User"."email", COALESCE("aggr_selection_0_Post"."_aggr_count_posts", 0) AS "_aggr_count_posts" FROM "public"."User" LEFT JOIN (SELECT "public"."Post"."authorId", COUNT(*) AS "_aggr_count_posts" FROM "public"."Post" WHERE 1=1 GROUP BY "public"."Post"."authorId") AS "aggr_selection_0_Post" ON ("public"."User"."id" = "aggr_selection_0_Post"."authorId") WHERE ("public"."User"."email" = $1 AND 1=1) LIMIT $2 OFFSET $3

SELECT "t0"."id", "User_posts"."__prisma_data__" AS "posts" FROM "public"."User" AS "t0" LEFT JOIN LATERAL (SELECT COALESCE(JSONB_AGG("__prisma_data__"), '[]') AS "__prisma_data__" FROM (SELECT "t3"."__prisma_data__" FROM (SELECT JSONB_BUILD_OBJECT('id', "t2"."id") AS "__prisma_data__" FROM (SELECT "t1".* FROM "public"."Post" AS "t1" WHERE "t0"."id" = "t1"."authorId" /* root select */) AS "t2" /* inner select */) AS "t3" /* middle select */) AS "t4" /* outer select */) AS "User_posts" ON TRUE

INSERT INTO "public"."User" ("email","name") VALUES ($1,$2) RETURNING "public"."User"."id", "public"."User"."email" /* traceparent='00-00-00-00' */

SELECT "public"."User"."id" FROM "public"."User" WHERE "public"."User"."id" IN ($1,$2,$3) /* traceparent='00-00-00-00' */

SELECT users.id, users.name, anon_1.count_1 FROM users LEFT OUTER JOIN (SELECT addresses.user_id AS user_id, count(*) AS count_1 FROM addresses GROUP BY addresses.user_id) AS anon_1 ON users.id = anon_1.user_id WHERE users.name = $1

SELECT users.id AS users_id, users.name AS users_name FROM users WHERE users.name = $1::VARCHAR AND users.id IN ($2::INTEGER, $3::INTEGER)

INSERT INTO users (name) SELECT p0::VARCHAR FROM (VALUES ($1::VARCHAR, 0), ($2::VARCHAR, 1)) AS imp_sen(p0, sen_counter) ORDER BY sen_counter RETURNING users.id, users.id AS id__1

select pg_catalog.version()

select current_schema()

show standard_conforming_strings

SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relname = $1::VARCHAR AND pg_catalog.pg_class.relkind = ANY (ARRAY[$2::VARCHAR, $3::VARCHAR]) AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid)

SELECT "User"."id" AS "User_id", "User"."firstName" AS "User_firstName" FROM "user" "User" LEFT JOIN "photo" "photo" ON "photo"."userId"="User"."id" WHERE ( ("User"."id" = $1) ) AND ( "User"."deletedAt" IS NULL ) LIMIT 1

SELECT DISTINCT "distinctAlias"."User_id" AS "ids_User_id" FROM (SELECT "User"."id" AS "User_id" FROM "user" "User" WHERE "User"."id" = $1) "distinctAlias" ORDER BY "User_id" ASC LIMIT 1

START TRANSACTION

SELECT * FROM current_schema()

SELECT "table_schema", "table_name", obj_description(('"' || "table_schema" || '"."' || "table_name" || '"')::regclass, 'pg_class') AS table_comment FROM "information_schema"."tables" WHERE ("table_schema" = 'public' AND "table_name" = 'user')

select "id", "name" from "users" where "users"."id" = $1

select "users"."id", "users_posts"."data" as "posts" from "users" "users" left join lateral (select coalesce(json_agg(json_build_array("users_posts"."id", "users_posts"."title")), '[]'::json) as "data" from "posts" "users_posts" where "users_posts"."user_id" = "users"."id") "users_posts" on true

select set_config('request.jwt.claims', $1, true), set_config('role', $2, true)

WITH pgrst_source AS ( SELECT "public"."projects".* FROM "public"."projects" LIMIT $1 OFFSET $2 ) SELECT null::bigint AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body, nullif(current_setting('response.headers', true), '') AS response_headers FROM ( SELECT * FROM pgrst_source ) _postgrest_t

WITH pgrst_source AS (INSERT INTO "public"."projects"("name") SELECT "name" FROM json_to_recordset($1) AS _("name" text) RETURNING "public"."projects"."id") SELECT '' AS total_result_set FROM pgrst_source

UPDATE accounts SET balance = balance - 100 WHERE id = 1; UPDATE accounts SET balance = balance + 100 WHERE id = 2; COMMIT

SELECT abalance FROM pgbench_accounts WHERE aid = 12345;

BEGIN; UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 1; END;

select * from jobs where state = 'ready' order by id for update skip locked limit 1

update jobs set state = 'taken' where id = (select id from jobs where state = 'ready' order by id for update skip locked limit 1) returning *

SELECT SUM(CASE WHEN l_returnflag = 'R' THEN l_extendedprice * (1 - l_discount) ELSE 0 END) / SUM(l_quantity) FROM lineitem, orders WHERE l_orderkey = o_orderkey AND o_orderdate >= date '1994-01-01' AND o_orderdate < date '1994-01-01' + interval '1' year

select s_name, count(*) as numwait from supplier, lineitem l1, orders, nation where s_suppkey = l1.l_suppkey and exists (select * from lineitem l2 where l2.l_orderkey = l1.l_orderkey) and not exists (select * from lineitem l3 where l3.l_suppkey <> l1.l_suppkey) group by s_name order by numwait desc, s_name limit 100

with revenue (supplier_no, total_revenue) as (select l_suppkey, sum(l_extendedprice * (1 - l_discount)) from lineitem where l_shipdate >= date '1996-01-01' group by l_suppkey) select s_suppkey, s_name, total_revenue from supplier, revenue where s_suppkey = supplier_no and total_revenue = (select max(total_revenue) from revenue) order by s_suppkey

select c_count, count(*) as custdist from (select c_custkey, count(o_orderkey) from customer left outer join orders on c_custkey = o_custkey and o_comment not like '%special%requests%' group by c_custkey) as c_orders (c_custkey, c_count) group by c_count order by custdist desc

SELECT n.nspname as "Schema", c.relname as "Name", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' END as "Type", pg_catalog.pg_get_userbyid(c.relowner) as "Owner" FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam WHERE c.relkind IN ('r','p','v','m','S','f','') AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2

SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef), a.attnotnull FROM pg_catalog.pg_attribute a WHERE a.attrelid = '16384' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum

BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY

SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE

SET extra_float_digits = 3

SET application_name = 'PostgreSQL JDBC Driver'

SELECT 1 AS "test"

SELECT NOW() AT TIME ZONE 'utc'

SELECT STATEMENT_TIMESTAMP(), LOCALTIMESTAMP(0), CURRENT_TIMESTAMP::date

SELECT TO_CHAR(NOW() :: DATE, 'dd/mm/yyyy')

DISCARD ALL

RESET ALL
