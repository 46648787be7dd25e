-- A row that refers to what never was there, under a key that is NOT VALID: an edit of its own key, or of what is decided with the reference, took it away.
-- case: {"schema": "public", "left": []}
-- island
-- source
CREATE TABLE "public"."t106_1" ("id" int PRIMARY KEY, "code" text UNIQUE);
CREATE TABLE "public"."t106_2" ("id" int PRIMARY KEY, "p" int, "s" text, CHECK ("p" IS NOT NULL OR "s" IS NOT NULL));
CREATE TABLE "public"."t106_3" ("id" int PRIMARY KEY, "c" text);
INSERT INTO "public"."t106_1" VALUES (1, 'a'), (2, 'b');
INSERT INTO "public"."t106_2" VALUES (1, 9, 'x'), (2, 9, 'x'), (3, 1, 'x');
INSERT INTO "public"."t106_3" VALUES (1, 'z'), (2, 'a');
ALTER TABLE "public"."t106_2" ADD FOREIGN KEY ("p") REFERENCES "public"."t106_1" NOT VALID;
ALTER TABLE "public"."t106_3" ADD FOREIGN KEY ("c") REFERENCES "public"."t106_1" ("code") ON DELETE SET NULL NOT VALID;
-- round 1
-- source writes, READ COMMITTED
UPDATE "public"."t106_2" SET "s" = 'y' WHERE "id" = 1;
UPDATE "public"."t106_2" SET "id" = 20 WHERE "id" = 2;
UPDATE "public"."t106_3" SET "id" = 10 WHERE "id" = 1;
-- round 2
-- source writes, READ COMMITTED
DELETE FROM "public"."t106_1" WHERE "id" = 2;
-- target writes, READ COMMITTED
INSERT INTO "public"."t106_2" VALUES (5, 2, 'x');
INSERT INTO "public"."t106_3" VALUES (5, 'b');
