-- A key across the border that is MATCH FULL: the target, which lacks it, takes a NULL beside a value, which then broke the source's key
-- case: {"schema": "public", "left": ["t110_1"]}
-- island
-- source
CREATE SCHEMA IF NOT EXISTS auth;
GRANT USAGE ON SCHEMA auth TO myteacher_app_user;
CREATE TABLE "auth"."t110_1" (
  "c0" int,
  "c1" int,
  PRIMARY KEY ("c0", "c1")
);
GRANT SELECT ON "auth"."t110_1" TO myteacher_app_user;
CREATE TABLE "public"."t110_2" (
  "id" int PRIMARY KEY,
  "r5" int,
  "r6" int
);
ALTER TABLE "public"."t110_2" ADD CONSTRAINT "t110_3" FOREIGN KEY ("r5", "r6") REFERENCES "auth"."t110_1" ("c0", "c1") MATCH FULL;
-- round 1
-- target writes, READ COMMITTED
INSERT INTO "public"."t110_2" ("id", "r5", "r6") VALUES (1, NULL, 7), (2, NULL, NULL);
