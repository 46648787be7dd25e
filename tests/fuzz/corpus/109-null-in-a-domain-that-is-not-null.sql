-- NULL gets past a domain that is NOT NULL by a subquery without a row: what arrives was cast, and the worker stopped
-- case: {"schema": "public", "left": []}
-- island
-- source
CREATE DOMAIN "public"."t9_2" AS text NOT NULL;
CREATE TABLE "public"."t9_1" (
  "id" int PRIMARY KEY,
  "v" "public"."t9_2"
);
-- round 1
-- target writes, READ COMMITTED
INSERT INTO "public"."t9_1" ("id", "v") VALUES (1, (SELECT "v" FROM "public"."t9_1" WHERE false));
