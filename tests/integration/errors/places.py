"""Places of this machine that cannot be used: state directories, outputs, reports, manifests, standard output."""

from __future__ import annotations

from tests.integration.errors.case import Case, Given

_LATER = '{"at": "2026-11-27T03:00:00+00:00", "step": "teleport", "event": "started"}\n'

CASES: list[Case] = [
    Case(
        "a file for the state directory",
        Given("schema apply", files={"state": "mine\n"}),
        10,
        ("{dir}/state", "is no directory of its own", "remove it, chmod 700 it, or name another"),
        Given(env={"TASK_MIGRATION_STATE_DIR": "{dir}/other"}),
        state="schema",
    ),
    Case(
        "a state directory that cannot be made",
        Given("schema apply", env={"TASK_MIGRATION_STATE_DIR": "/proc/nowhere/state"}),
        2,
        ("/proc/nowhere: No such file or directory; mend it, or name another place",),
        Given(env={"TASK_MIGRATION_STATE_DIR": "{dir}/other"}),
        state="schema",
    ),
    Case(
        "a journal elsewhere than S3",
        Given("canary status --explain", env={"TASK_MIGRATION_STATE_DIR": "ftp://host/state"}),
        2,
        ("'ftp://host/state' is no S3 location; write s3://bucket/prefix",),
        Given(env={"TASK_MIGRATION_STATE_DIR": "{dir}/state"}),
    ),
    Case(
        "a directory for the journal",
        Given("canary status --explain", files={"state/journal.jsonl": None}),
        10,
        ("state/journal.jsonl is no file of this user's alone", "remove it"),
        Given(env={"TASK_MIGRATION_STATE_DIR": "{dir}/other"}),
    ),
    Case(
        "a decision that is none yet",
        Given("canary status --explain"),
        10,
        ("nothing was decided yet; the first decision comes with: task-migration canary step",),
    ),
    Case(
        "a journal of a later program",
        Given("canary status --explain", files={"state/journal.jsonl": _LATER}),
        10,
        ("holds what is no event of this program, passed by: line 1: of no step of this program",),
        changes=True,
    ),
    Case(
        "a backup to a file",
        Given("backup --output out", files={"out": "mine\n"}),
        10,
        ("out is no directory of its own", "name another"),
        state="new",
    ),
    Case(
        "a backup where nothing can be written",
        Given("backup --output /proc/backups"),
        2,
        ("writing", "to /proc/backups failed", "No such file or directory; mend it, or name another place"),
        state="new",
    ),
    Case(
        "a backup into a directory of others",
        Given("backup --output /tmp"),
        10,
        ("/tmp is open to others (mode 1777, 0700 at most)", "name another"),
        state="new",
    ),
    Case(
        "a manifest that is not there",
        Given("backup restore out/none.json"),
        2,
        ("reading none.json from out failed", "No such file or directory"),
        state="new",
    ),
    Case(
        "a manifest that is none",
        Given("backup restore list.json", files={"list.json": "[1, 2]\n"}),
        2,
        ("reading list.json from . failed", "name the manifest of a backup"),
        state="new",
    ),
    Case(
        "a manifest of a backup that failed",
        Given("backup restore m.json", files={"m.json": '{"restore_verified": false, "reason": "killed"}'}),
        2,
        ("m.json says not verified (killed); choose a verified backup",),
        state="new",
    ),
    Case(
        "no report",
        Given("report --path none.json"),
        2,
        ("none.json does not exist; run first: make rehearsal, or name another with --path",),
    ),
    Case(
        "a directory for a report",
        Given("report --path {dir}"),
        2,
        ("{dir}: Is a directory; mend it, or name another place",),
    ),
    Case(
        "a report that is none",
        Given("report --path r.json", files={"r.json": "{}"}),
        2,
        ("r.json is no report: ", "run again: make rehearsal"),
    ),
    Case(
        "a rehearsal over somebody's files",
        Given("rehearse --output mine", files={"mine/thesis.txt": "years\n"}),
        2,
        (
            "--output {dir}/mine has what is of no rehearsal (thesis.txt), and it would be deleted; name a new or empty directory",
        ),
    ),
    Case(
        "a rehearsal into a file",
        Given("rehearse --output mine", files={"mine": "years\n"}),
        2,
        ("--output {dir}/mine: Not a directory; name a new or empty directory",),
    ),
    Case(
        "a rehearsal where nothing can be written",
        Given("rehearse --output /proc/nowhere"),
        2,
        ("--output /proc/nowhere: No such file or directory; name a new or empty directory",),
    ),
    Case(
        "environments that are none of GitHub's",
        Given(
            "ci-roles --repository o/r --state-bucket b --secrets-key k --environments e.json --stack staging",
            files={"e.json": "no JSON"},
        ),
        2,
        ("Pulumi.staging.yaml is not usable", "no value"),
    ),
]
