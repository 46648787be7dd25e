-- SET NULL of a column that is NOT NULL, a key that counts by itself, a default that leads nowhere: the worker stopped, or the child stayed without its parent.
-- case: {"schema": "public", "left": []}
-- island
-- source
CREATE TABLE "public"."t104_1" ("id" int PRIMARY KEY);
CREATE TABLE "public"."t104_7" ("id" int PRIMARY KEY);
CREATE TABLE "public"."t104_2" ("id" int PRIMARY KEY, "p" int NOT NULL REFERENCES "public"."t104_1" ON DELETE SET NULL);
CREATE TABLE "public"."t104_3" ("id" int GENERATED ALWAYS AS IDENTITY PRIMARY KEY REFERENCES "public"."t104_7" ON DELETE SET NULL);
CREATE TABLE "public"."t104_4" ("id" int PRIMARY KEY, "p" int DEFAULT 9 REFERENCES "public"."t104_1" ON DELETE SET DEFAULT);
CREATE TABLE "public"."t104_5" ("id" int PRIMARY KEY, "p" int REFERENCES "public"."t104_1" ON DELETE SET NULL, "q" int, CHECK ("p" IS NOT NULL OR "q" IS NOT NULL));
CREATE TABLE "public"."t104_6" ("id" int PRIMARY KEY, "p" int DEFAULT 2 REFERENCES "public"."t104_1" ON DELETE SET DEFAULT);
INSERT INTO "public"."t104_1" VALUES (1), (2), (3);
INSERT INTO "public"."t104_7" VALUES (1), (3);
-- round 1
-- source writes, READ COMMITTED
DELETE FROM "public"."t104_1" WHERE "id" = 1;
UPDATE "public"."t104_7" SET "id" = 2 WHERE "id" = 1;
-- target writes, READ COMMITTED
INSERT INTO "public"."t104_2" VALUES (1, 1), (2, 3);
INSERT INTO "public"."t104_3" OVERRIDING SYSTEM VALUE VALUES (1), (3);
INSERT INTO "public"."t104_4" VALUES (1, 1), (2, 3);
INSERT INTO "public"."t104_5" VALUES (1, 1, NULL), (2, 1, 1);
INSERT INTO "public"."t104_6" VALUES (1, 1), (2, 3);
-- round 2
-- target writes, READ COMMITTED
DELETE FROM "public"."t104_1" WHERE "id" = 2;
-- source writes, READ COMMITTED
INSERT INTO "public"."t104_6" VALUES (3, 2), (4, 3);
INSERT INTO "public"."t104_2" VALUES (3, 2), (4, 3);
