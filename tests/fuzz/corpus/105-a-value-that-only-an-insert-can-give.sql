-- SET n = DEFAULT of a column that is GENERATED ALWAYS AS IDENTITY, and two inserts of one row with it: no UPDATE can set it, so the sides stayed unequal.
-- case: {"schema": "public", "left": []}
-- island
-- source
CREATE TABLE "public"."t105_1" ("id" int PRIMARY KEY, "n" int GENERATED ALWAYS AS IDENTITY, "v" text);
CREATE TABLE "public"."t105_2" ("id" int PRIMARY KEY, "p" int REFERENCES "public"."t105_1" ON DELETE CASCADE);
CREATE TABLE "public"."t105_3" ("id" int PRIMARY KEY, "n" int GENERATED ALWAYS AS IDENTITY UNIQUE, "v" text UNIQUE);
INSERT INTO "public"."t105_1" VALUES (1, DEFAULT, 'old');
INSERT INTO "public"."t105_2" VALUES (1, 1);
INSERT INTO "public"."t105_3" VALUES (1, DEFAULT, 'old');
-- round 1
-- source writes, READ COMMITTED
UPDATE "public"."t105_1" SET "n" = DEFAULT;
UPDATE "public"."t105_3" SET "n" = DEFAULT;
-- target writes, READ COMMITTED
UPDATE "public"."t105_1" SET "v" = 'service';
UPDATE "public"."t105_3" SET "v" = 'service';
-- round 2
-- source writes, READ COMMITTED
INSERT INTO "public"."t105_1" VALUES (2, DEFAULT, 'monolith');
INSERT INTO "public"."t105_3" VALUES (2, DEFAULT, 'monolith');
-- target writes, READ COMMITTED
INSERT INTO "public"."t105_1" VALUES (2, DEFAULT, 'service');
INSERT INTO "public"."t105_3" VALUES (2, DEFAULT, 'service');
UPDATE "public"."t105_1" SET "n" = DEFAULT WHERE "id" = 1;
