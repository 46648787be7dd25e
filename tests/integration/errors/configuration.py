"""Stack files that cannot be used, each read by a command that needs it."""

from __future__ import annotations

from tests.integration.errors.case import Case, Given

_USABLE = "config:\n  task-migration:watchSeconds: 60\n"


def _file(name: str, text: str | bytes | None, *says: str, mend: str | None = _USABLE, command: str = "status") -> Case:
    """A stack's file with this text."""
    line = f"{command} --stack wrong"
    mended = Given(files={"Pulumi.wrong.yaml": mend}) if mend is not None else None
    return Case(name, Given(line, files={"Pulumi.wrong.yaml": text}), 2, says, mended)


def _key(name: str, yaml: str, *says: str, mend: str | None = _USABLE, command: str = "status") -> Case:
    """One key that is wrong."""
    return _file(name, f"config:\n  task-migration:{yaml}\n", *says, mend=mend, command=command)


CASES: list[Case] = [
    _file("a file that is no YAML", "config: [open\n", "Pulumi.wrong.yaml is not YAML", "line 1", "correct it"),
    _file("a file with a tab", "config:\n\ttask-migration:region: x\n", "is not YAML", "'\\t'", "line 2"),
    _file(
        "a file in another encoding",
        "config:\n  task-migration:region: caf\u00e9\n".encode("latin-1"),
        "is no text in UTF-8",
        "at byte 36",
        "save it as UTF-8",
    ),
    _file(
        "a file of UTF-16", "config:\n".encode("utf-16"), "is no text in UTF-8", "save it as UTF-8", command="verify"
    ),
    _file(
        "a directory for a file",
        None,
        "cannot be read: Is a directory",
        "a file that this user may read",
        command="schema diff",
    ),
    _file("a list for a file", "- a\n", "has no `config:` map; compare it with Pulumi.staging.yaml", command="copy"),
    _file(
        "a list for the keys",
        "config: []\n",
        "has no `config:` map; compare it with Pulumi.staging.yaml",
        command="backup --output x",
    ),
    _file(
        "a program in YAML",
        "config: !!python/object/apply:os.system ['id']\n",
        "is not YAML",
        "python/object/apply:os.system",
    ),
    _key(
        "an unknown key",
        "tabels: [tasks]",
        "tabels: unknown key; is tables meant?",
        "Remove it or correct its spelling",
        command="copy",
    ),
    _key(
        "a key in another spelling",
        "watch_seconds: 60",
        "watch_seconds: unknown key; is watchSeconds",
        "meant?",
        command="canary step",
    ),
    _key(
        "two spellings of one key",
        "watchSeconds: 60\n  task-migration:watchseconds: 90",
        "watchseconds: unknown key; is watchSeconds",
        command="canary run",
    ),
    _key(
        "a key that stands twice",
        "watchSeconds: 60\n  task-migration:watchSeconds: 90",
        "watchSeconds stands in it twice",
        "line 3",
        command="rollback",
    ),
    _key(
        "a key that is a secret's",
        "dbPassword: Hidden-pw1",
        "dbPassword: unknown key",
        "Remove it or correct its spelling",
    ),
    _key(
        "a gate that is unknown",
        "gates: {p95: 400}",
        "gates.p95: unknown key; is gates.p95Ms",
        "meant?",
        command="canary status",
    ),
    _key(
        "a gate below its limit",
        "gates: {p95Ms: -3}",
        "gates.p95Ms: value -3; limit: Input should be greater than 0",
        "pulumi config set --path 'task-migration:gates.p95Ms' VALUE",
    ),
    _key(
        "a word for a number",
        "watchSeconds: soon",
        "watchSeconds: value 'soon'; limit: Input should be a valid number",
        "pulumi config set task-migration:watchSeconds VALUE",
    ),
    _key(
        "yes for a number",
        "watchSeconds: yes",
        "watchSeconds: value True; limit: a number, not yes or no",
        "pulumi config set task-migration:watchSeconds VALUE",
        command="canary run",
    ),
    _key(
        "no number",
        "watchSeconds: .nan",
        "watchSeconds: value nan; limit: Input should be a finite number",
        command="canary step",
    ),
    _key(
        "a wait without an end",
        "drainSeconds: .inf",
        "drainSeconds: value inf; limit: Input should be a finite number",
        command="rollback",
    ),
    _key(
        "a rollback of a quarter of an hour",
        "rollbackLimitSeconds: 900",
        "rollbackLimitSeconds: value 900; limit: Input should be less than or equal to 300",
        "5 minutes at most",
        command="rollback",
    ),
    _key(
        "a ladder that falls",
        "canaryLadder: [50, 25]",
        "canaryLadder: value [50, 25]",
        "must rise and end at 100; for example [5, 25, 50, 100]",
        "Correct it in Pulumi.wrong.yaml",
        command="canary status",
    ),
    _key(
        "a table twice",
        "tables: [tasks, tasks]",
        "a name stands in it twice; remove one",
        "Correct it in Pulumi.wrong.yaml",
        command="preflight",
    ),
    _key(
        "no table at all",
        "tables: []",
        "tables: an empty list, which means none; limit: at least 1",
        "Correct it in Pulumi.wrong.yaml; without the key its default counts",
        command="preflight",
    ),
    _key(
        "a ladder without a step, as `pulumi config set` keeps it",
        "canaryLadder: '[]'",
        "canaryLadder: an empty list, which means none; limit: at least 1",
        command="canary status",
    ),
    _key(
        "a table that moves and stays",
        "tables: [tasks, users]",
        "users: a table either moves or stays; take it out of one list",
        command="schema apply",
    ),
    _key("a name that PostgreSQL cuts", f"tables: [{'x' * 64}]", "is no identifier: 1 to 63 bytes", command="verify"),
    _key(
        "a number for a table",
        "tables: [1.5]",
        "tables.0: value 1.5; limit: Input should be a valid string",
        "pulumi config set --path 'task-migration:tables[0]' VALUE",
    ),
    _key(
        "an engine that is none",
        "replicationEngine: kafka",
        "replicationEngine: value 'kafka'; limit: Input should be 'dms', 'native' or 'none'",
        command="replicate start",
    ),
    _key(
        "a publication's name that needs quotes",
        "publication: Task Pub",
        "publication: value 'Task Pub'; limit: String should match pattern",
        command="replicate wait",
    ),
    _key(
        "a load that is none",
        "maxLoad: 'sessions=0'",
        "maxLoad: value 'sessions=0'; limit:",
        "sessions=8,commit-ms=20",
        command="copy",
    ),
    _key(
        "an encrypted key that is no secret",
        "tables:\n    secure: v1:abc",
        "tables: encrypted; limit: plain text",
        "pulumi config set --plaintext task-migration:tables VALUE",
        command="finalize",
    ),
    _key(
        "a whole stack that lacks its keys",
        "region: mars",
        "region: value 'mars'; limit: String should match pattern",
        "environment: no value",
        "pulumi config set task-migration:region VALUE",
        mend=None,
        command="preflight --account",
    ),
    _key(
        "an emergency without its listener",
        "environment: prod",
        "listenerArn: no value",
        "pulumi config set task-migration:listenerArn VALUE",
        mend=None,
        command="rollback --emergency",
    ),
    _key(
        "a file of which roles cannot be made",
        "environment: test",
        "environment: value 'test'; limit: Input should be 'staging' or 'prod'",
        mend=None,
        command="ci-roles --repository o/r --state-bucket b --secrets-key k",
    ),
    Case(
        "a file that init cannot fill",
        Given(
            "init --stack prod --no-input",
            files={"Pulumi.yaml": "name: task-migration\n", "Pulumi.prod.yaml": "config: [open\n"},
        ),
        2,
        ("Pulumi.prod.yaml is not YAML", "line 1", "correct it"),
    ),
    Case(
        "no stack",
        Given("canary status", env={"PULUMI_STACK": None}),
        2,
        ("no stack is selected; name it with --stack staging|prod, or export PULUMI_STACK",),
        Given("canary status --stack errors"),
    ),
    Case("no stack for a rollback", Given("rollback", env={"PULUMI_STACK": ""}), 2, ("no stack is selected",)),
    Case(
        "no stack for the service",
        Given("canary start-service", env={"PULUMI_STACK": None}),
        2,
        ("no stack is selected",),
    ),
    Case(
        "no stack for a shadow run",
        Given("shadow --base-url https://x --token-file y", env={"PULUMI_STACK": None}),
        2,
        ("no stack is selected",),
    ),
    Case(
        "a leftover of a rehearsal",
        Given("canary status", env={"TASK_MIGRATION_STAGE": "scripts.rehearsal.stage:stage"}),
        2,
        ("TASK_MIGRATION_REHEARSAL names ''", "unset TASK_MIGRATION_STAGE outside of a rehearsal"),
        Given(env={"TASK_MIGRATION_STAGE": None}),
    ),
    Case(
        "a stage that is none",
        Given("canary run", env={"TASK_MIGRATION_STAGE": "no.such:stage"}),
        2,
        ("TASK_MIGRATION_STAGE is 'no.such:stage', which cannot be loaded", "unset it"),
        Given(env={"TASK_MIGRATION_STAGE": None}),
    ),
    Case(
        "no Pulumi",
        Given("canary step", env={"PATH": "/nowhere"}),
        10,
        ("the Pulumi CLI is not on PATH (/nowhere); install it", "rollback --emergency"),
    ),
]
