-- A table whose primary key went with a column: preflight ended with a server's words about its own functions, and named no table.
-- case: {"schema": "public", "left": []}
-- island
-- source
CREATE TABLE "public"."t107_1" ("a" int, "b" int, PRIMARY KEY ("a", "b"));
ALTER TABLE "public"."t107_1" DROP COLUMN "b";
INSERT INTO "public"."t107_1" VALUES (1);
-- round 1
-- source writes, READ COMMITTED
INSERT INTO "public"."t107_1" VALUES (2);
