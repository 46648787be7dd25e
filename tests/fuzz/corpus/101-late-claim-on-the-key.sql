-- A claim on the key's own columns that is checked late: ON CONFLICT (key) takes it for an arbiter, and cannot; the worker stopped.
-- case: {"schema": "public", "left": []}
-- island
-- source
CREATE TABLE "public"."t101_1" (
  "c0" bigint NOT NULL,
  PRIMARY KEY ("c0")
);
ALTER TABLE "public"."t101_1" ADD CONSTRAINT "t101_5" UNIQUE ("c0") DEFERRABLE;
-- round 1
-- source writes, READ COMMITTED
INSERT INTO "public"."t101_1" ("c0") VALUES ('2'), ('1');
-- target writes, READ COMMITTED
INSERT INTO "public"."t101_1" ("c0") VALUES ('2'), ('3');
