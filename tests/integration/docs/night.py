"""What README and docs/ say to type, in the order in which a plan with a failed copy, disagreeing data and two ways back types it.

``NIGHT`` is carried out on real servers and the emulated account; ``STATEMENTS`` by the roles that they are meant for. What cannot be
run here stands in ``ELSEWHERE`` with its reason. tests/unit/docs/test_every_command.py holds the documents to these lists.
"""

from __future__ import annotations

from scripts.support.errors import Refused

REFUSED = Refused.exit_status
#: A line of the documents as it stands there, its exit status.
NIGHT: tuple[tuple[str, int], ...] = (
    # Days before.
    ("task-migration rehearse --list", 0),
    # moto knows no certificate of DMS, and a secret is encrypted by Pulumi's CLI.
    ("task-migration init --stack staging", REFUSED),
    (
        "task-migration ci-roles --stack staging --repository ORG/REPO --state-bucket BUCKET --secrets-key KEY-ARN --output ci-staging",
        0,
    ),
    ("task-migration schema role --operator", 0),
    ("task-migration canary start-service", 0),
    ("task-migration preflight", 0),
    ("task-migration preflight --account", 0),
    ("task-migration preflight --account --stack staging", 0),
    # D-14.
    ("export PULUMI_STACK=prod", 0),
    ("task-migration backup --output s3://<backupBucket>/database/$(date +%F)", 0),
    ("task-migration backup --output s3://myteacher-backups-staging/database/2026-11-23", 0),
    ("export RESTORE_DATABASE_URL=...", 0),
    ("task-migration backup restore <manifest> [--database NAME] [--sha256 HEX]", 0),
    ("task-migration schema apply", 0),
    ("task-migration schema diff", 0),
    ("task-migration schema role --replication", 0),
    ("task-migration copy", 0),
    ('task-migration rollback --scenario copy --reason "..."', 0),
    ("task-migration copy", 0),
    ("task-migration replicate start", 0),
    ("task-migration replicate status", 0),
    ("task-migration replicate status --json", 0),
    ("task-migration verify", 0),
    ("task-migration status", 0),
    # The data are given up, then the whole.
    ("task-migration verify --repair newest", 0),
    ('task-migration rollback --scenario data --reason "..."', 0),
    ("task-migration copy", 0),
    ("task-migration replicate start", 0),
    ("task-migration replicate stop", 0),
    ("task-migration replicate start", 0),
    ("task-migration rollback --abandon", 0),
    ('task-migration rollback --scenario copy --force --reason "..."', 0),
    ("task-migration copy", 0),
    ("task-migration replicate start", 0),
    # The day before.
    (
        "task-migration api-check --smoke --base-url <apiEndpoint> --token-file user-1.jwt --other-token-file user-2.jwt "
        "--member-id <another user of user 1's group> --stranger-id <a user of another group> "
        "--balancer-url https://<listenerServerName> --refused-token-file expired.jwt --refused-token-file other-pool.jwt",
        0,
    ),
    ("task-migration shadow --base-url <apiEndpoint> --token-file users.jwt", 0),
    ("task-migration verify", 0),
    ("task-migration canary step --dry-run", 0),
    # What looks, and what goes back: no weight goes up here, as a watch wants a machine of its own.
    ("task-migration canary status", 0),
    ("task-migration verify --incremental", 0),
    ("task-migration verify --algorithm md5", 0),
    ("task-migration verify --show-values", 0),
    ("task-migration replicate wait", 0),
    ("task-migration rollback --dry-run", 0),
    ('task-migration rollback --emergency --reason "..."', 0),
    ('task-migration rollback --reason "..."', 0),
    ("task-migration rollback", 0),
    ("task-migration rollback --emergency", 0),
    ('task-migration rollback --scenario deployment --reason "..."', 0),
    ("task-migration rollback --stop-service", 0),
    ("task-migration report --journal --html report.html", 0),
    ('task-migration rollback --emergency --stop-service --reason "..."', 0),
    ("pulumi up", 0),
    ("task-migration canary start-service", 0),
    ("aws sts get-caller-identity", 0),
    ("aws ecs describe-services --cluster myteacher-cluster --services task-service", 0),
    (
        "aws ecr batch-delete-image --repository-name myteacher-task-service --image-ids "
        '"$(aws ecr list-images --repository-name myteacher-task-service --query imageIds --output json)"',
        0,
    ),
)
#: SQL of the documents, by who is meant to run it: a superuser (the master), or the operator; `op` is his role there.
STATEMENTS: dict[str, tuple[str, ...]] = {
    "master": (
        "ALTER ROLE op REPLICATION",
        "GRANT rds_replication TO op",
        "GRANT pg_create_subscription TO op",
        "GRANT CREATE ON DATABASE <database> TO op",
        "GRANT SET ON PARAMETER session_replication_role TO op",
        "GRANT rds_superuser TO op",
        "GRANT SELECT, UPDATE (id) ON users TO op",
        "GRANT pg_read_all_stats TO op",
        "GRANT pg_read_all_data TO op",
        "ALTER SCHEMA public OWNER TO op",
        "ALTER ROLE op CREATEROLE REPLICATION",
        "GRANT rds_replication TO op WITH ADMIN OPTION",
        "GRANT rds_superuser TO task_replication",
        "GRANT pg_signal_backend TO op",
        "GRANT SET ON PARAMETER deadlock_timeout TO op",
        "GRANT EXECUTE ON FUNCTION pg_replication_origin_progress(text, boolean) TO op",
        "ALTER ROLE task_replication PASSWORD NULL",
        "ALTER ROLE task_operator NOLOGIN",
        "ALTER TABLE ... DISABLE TRIGGER ALL",
    ),
    "operator": (
        "SELECT name, setting, pending_restart FROM pg_settings WHERE name IN ('wal_level', 'max_replication_slots', 'max_wal_senders')",
        "SELECT at, table_name, key, kind, columns, lost, kept FROM task_migration.conflicts ORDER BY id",
        "SELECT * FROM task_migration.locks",
        "SET session_replication_role = replica",
        "ALTER SUBSCRIPTION task_service_sub_reverse DISABLE",
        "ALTER SUBSCRIPTION task_service_sub_reverse SET (slot_name = NONE)",
        "DROP SUBSCRIPTION task_service_sub_reverse",
    ),
}
#: What is not run here, and why, or which test runs it.
ELSEWHERE: dict[str, str] = {
    "task-migration rehearse": "minutes; tests/rehearsal/test_rehearsal.py runs it with fewer rows and shorter watches",
    "task-migration rehearse --scenario NAME": "minutes each; tests/rehearsal/test_scenarios.py plays them all",
    "task-migration rehearse --drill": "minutes; tests/rehearsal/test_rehearsal.py runs it with fewer users",
    "task-migration rehearse --replication dms --dms-lag 5 --sticky 30 --watch 60": "twelve minutes and more",
    "task-migration canary step": "a watch; tests/rehearsal/test_rehearsal.py climbs the ladder by it",
    'task-migration canary step --to 25 --force --reason "..."': "a watch; tests/integration/canary/test_step.py",
    "task-migration canary step --take-over": "a watch; tests/integration/canary/test_locks.py",
    "task-migration canary run": "watches; tests/integration/canary/test_databases.py",
    "task-migration canary status --explain": "of a watch; tests/integration/canary/test_journal.py",
    "task-migration finalize --dry-run": "at 100 %; tests/integration/test_breaking_commands.py",
    "task-migration finalize": "at 100 %; tests/rehearsal/test_rehearsal.py ends by it",
    "task-migration status --watch": "until Ctrl-C; tests/integration/status/test_status.py",
    "task-migration report": "needs the report of a rehearsal; tests/unit/cli/test_app.py runs it without one",
    'task-migration init --stack staging --secrets-provider "$PULUMI_SECRETS_PROVIDER"': "Pulumi's backend; tests/integration/init/test_init.py",
    "task-migration ci-roles ... --check --environments environments.json": "tests/integration/deployment/test_ci_check.py",
    "sh docs/bootstrap/backend.sh myteacher-pulumi-state-staging": "tests/integration/deployment/test_ci_check.py",
    "sh ci-staging/make.sh": "tests/integration/deployment/test_ci_check.py",
    "gh api repos/ORG/REPO/environments > environments.json": "GitHub's; tests/integration/deployment/test_ci_check.py reads such an answer",
    "curl -fO https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem": "AWS's own server",
    "curl https://<customDomainName>/health": "a name in a real DNS",
    "export PULUMI_STACK=staging": "the rehearsed stack has a name of its own",
    "export PGSSLROOTCERT=$PWD/global-bundle.pem": "tests/integration/database/test_certificates.py",
    "export SCRATCH_DATABASE_URL=...": "tests/integration/backup/test_backup.py",
    "touch .task-migration/pause": "tests/integration/database/test_pace.py",
    "python -m tests.bench": "hours: `make bench`",
    "python -m scripts": "the same program as task-migration",
    ".ci/run": "what CI runs",
    "ALTER SUBSCRIPTION ... SKIP": "what must not be done",
    "ALTER SUBSCRIPTION ... REFRESH PUBLICATION": "what the program does itself",
    "INSERT ... RETURNING": "a kind of statement",
}
