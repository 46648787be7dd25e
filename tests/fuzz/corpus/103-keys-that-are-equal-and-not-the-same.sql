-- Keys that `=` calls equal and that are not written the same: the row of one side was taken for the other's, and stayed on one side alone.
-- case: {"schema": "public", "left": []}
-- island
-- source
CREATE TABLE "public"."t103_1" ("k" interval PRIMARY KEY, "v" text);
CREATE TABLE "public"."t103_2" ("k" numeric PRIMARY KEY, "v" text);
CREATE TABLE "public"."t103_3" ("id" int PRIMARY KEY, "k" numeric REFERENCES "public"."t103_2" ON DELETE CASCADE);
CREATE TABLE "public"."t103_4" ("j" jsonb, "f" double precision, "v" text, PRIMARY KEY ("j", "f"));
INSERT INTO "public"."t103_2" VALUES (7, 'old'), (8, 'old');
INSERT INTO "public"."t103_3" VALUES (1, 7.0), (2, 8);
-- round 1
-- source writes, READ COMMITTED
INSERT INTO "public"."t103_1" VALUES ('24:00:00', 'monolith');
INSERT INTO "public"."t103_2" VALUES (1.0, 'monolith');
INSERT INTO "public"."t103_4" VALUES ('{"a": 1}', '-0', 'monolith');
-- target writes, READ COMMITTED
INSERT INTO "public"."t103_1" VALUES ('1 day', 'service');
INSERT INTO "public"."t103_2" VALUES (1.00, 'service');
INSERT INTO "public"."t103_3" VALUES (100, 1);
INSERT INTO "public"."t103_4" VALUES ('{"a": 1.0}', '0', 'service');
-- round 2
-- source writes, READ COMMITTED
UPDATE "public"."t103_2" SET "k" = 7.00 WHERE "k" = 7;
-- round 3
-- source writes, READ COMMITTED
UPDATE "public"."t103_2" SET "k" = 8.00 WHERE "k" = 8;
-- target writes, READ COMMITTED
UPDATE "public"."t103_2" SET "v" = 'service' WHERE "k" = 8;
