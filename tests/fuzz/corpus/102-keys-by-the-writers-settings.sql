-- A key's text depended on the settings of the session that wrote: two writes of one row were taken for writes of two rows.
-- case: {"schema": "public", "left": []}
-- island
-- source
CREATE TABLE "public"."t102_1" ("at" timestamptz PRIMARY KEY, "v" text);
CREATE TABLE "public"."t102_2" ("b" bytea PRIMARY KEY, "v" text);
CREATE TABLE "public"."t102_3" ("r" tstzrange PRIMARY KEY, "v" text);
INSERT INTO "public"."t102_1" VALUES ('2024-02-29 01:00:00+00', 'old');
INSERT INTO "public"."t102_2" VALUES ('\x00ff', 'old');
INSERT INTO "public"."t102_3" VALUES ('[2024-02-29 01:00:00+00,)', 'old');
-- round 1
-- source writes, READ COMMITTED
SET LOCAL timezone = 'Asia/Tokyo';
SET LOCAL bytea_output = 'escape';
UPDATE "public"."t102_1" SET "v" = 'monolith';
UPDATE "public"."t102_2" SET "v" = 'monolith';
UPDATE "public"."t102_3" SET "v" = 'monolith';
-- target writes, READ COMMITTED
UPDATE "public"."t102_1" SET "v" = 'service';
UPDATE "public"."t102_2" SET "v" = 'service';
UPDATE "public"."t102_3" SET "v" = 'service';
