-- A composite that becomes NULL: no change was seen, and none was recorded.
-- case: {"schema": "public", "left": []}
-- island
-- source
CREATE TYPE "public"."c108_2" AS (x integer, y text);
CREATE TABLE "public"."t108_1" ("id" int PRIMARY KEY, "v" "public"."c108_2");
INSERT INTO "public"."t108_1" VALUES (1, '(,)'), (2, '(1,a)'), (3, NULL);
-- round 1
-- source writes, READ COMMITTED
UPDATE "public"."t108_1" SET "v" = NULL;
UPDATE "public"."t108_1" SET "v" = '(2,b)' WHERE "id" = 3;
