"""The files that are mutated, and by which tests: those that claim something about the file, fast ones first."""

from __future__ import annotations

_CANARY, _WRITES = "tests/unit/canary", "tests/integration/replication"
_EXPRESSIONS = "tests/integration/verify/test_expressions.py"
_TWO = "tests/integration/verify/test_two_databases.py"
_CONFIG = (
    "tests/unit/components/test_config_limits.py",
    "tests/unit/components/test_config_foreign.py",
    "tests/unit/support/test_support.py",
    "tests/unit/deployment/test_stack_file.py",
)
_BACK = (
    f"{_CANARY}/test_rollback.py",
    f"{_CANARY}/test_way_back.py",
    f"{_CANARY}/test_stage.py",
    "tests/integration/canary/test_step.py",
)
_LOOKS = (
    f"{_CANARY}/test_readiness.py",
    f"{_CANARY}/test_way_back.py",
    "tests/integration/canary/test_looks.py",
)
#: Left out is what only words or carries: documents, texts, readers of AWS; SQL files, which mutmut does not know (tests/model/ and
#: tests/fuzz/ look after the rules' SQL); and what decides by the way and is tested on servers alone, minutes for a few mutants: steps
#: and watches (tests/machine/ plays them), fences, a copy's state, a schema's statements, bindings.
SCOPE: dict[str, tuple[str, ...]] = {
    "components/buckets.py": ("tests/unit/components/test_buckets.py",),
    "components/config.py": _CONFIG,
    "components/config_stack.py": _CONFIG,
    "components/config_values.py": _CONFIG,
    "scripts/canary/cloudwatch.py": (f"{_CANARY}/test_cloudwatch.py",),
    "scripts/canary/comparison.py": (f"{_CANARY}/test_gates.py",),
    "scripts/canary/decisions.py": (f"{_CANARY}/test_decisions.py",),
    "scripts/canary/figures.py": (
        f"{_CANARY}/test_figures.py",
        f"{_CANARY}/test_gates.py",
        f"{_CANARY}/test_cloudwatch.py",
    ),
    "scripts/canary/gates.py": (f"{_CANARY}/test_gates.py",),
    "scripts/canary/guard.py": (f"{_CANARY}/test_guard.py",),
    "scripts/canary/history.py": (f"{_CANARY}/test_history.py", "tests/integration/canary/test_history.py"),
    "scripts/canary/limits.py": (f"{_CANARY}/test_gates.py",),
    "scripts/canary/notices.py": (f"{_CANARY}/test_notices.py",),
    "scripts/canary/operator_lock.py": _LOOKS,
    "scripts/canary/readiness.py": _LOOKS,
    "scripts/canary/ready.py": (f"{_CANARY}/test_ready.py",),
    "scripts/canary/rollback.py": _BACK,
    "scripts/canary/service_control.py": (f"{_CANARY}/test_service_control.py",),
    "scripts/canary/way_back.py": _BACK,
    "scripts/copy/plan.py": ("tests/unit/copy",),
    "scripts/rehearsal/criteria.py": ("tests/unit/rehearsal/test_report.py", "tests/unit/rehearsal/test_machine.py"),
    "scripts/replication/findings.py": ("tests/unit/replication",),
    "scripts/replication/slot_health.py": ("tests/unit/replication",),
    "scripts/status/judge.py": ("tests/unit/status",),
    "scripts/support/listener_rules.py": ("tests/unit/support/test_listener_rules.py",),
    "scripts/support/safety.py": ("tests/unit/support/test_safety.py",),
    "scripts/verify/buckets.py": ("tests/unit/verify/test_buckets.py", _EXPRESSIONS),
    "scripts/verify/hash.py": ("tests/unit/verify/test_hash.py", _EXPRESSIONS),
    "scripts/verify/replay.py": ("tests/unit/verify/test_replay.py", _TWO),
    "scripts/verify/rows.py": ("tests/unit/verify/test_rows.py", _EXPRESSIONS, _TWO),
    "scripts/verify/slices.py": (_EXPRESSIONS,),
    "scripts/verify/verdict.py": (_TWO,),
    "scripts/writes/apply.py": (f"{_WRITES}/test_rules.py",),
    "scripts/writes/relations.py": ("tests/unit/writes", f"{_WRITES}/test_relations.py", f"{_WRITES}/test_rules.py"),
    "tests/model/judge.py": ("tests/model/test_judge.py",),
    "tests/model/world.py": ("tests/model/test_judge.py",),
}
