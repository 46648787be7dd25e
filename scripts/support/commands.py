"""What is typed next at each place of the plan, once: every text that says what follows says it with these words."""

from __future__ import annotations

PREFLIGHT = "task-migration preflight"
BACKUP = "task-migration backup --output s3://BUCKET/PREFIX"
SCHEMA = "task-migration schema apply"
COPY = "task-migration copy"
START = "task-migration replicate start"
VERIFY = "task-migration verify"
SHADOW = "task-migration shadow --base-url URL --token-file FILE"
STEP = "task-migration canary step"
LAST = "task-migration verify, then task-migration finalize"
FINALIZE = "task-migration finalize"
ROLLBACK = "task-migration rollback"
ABANDON = "task-migration rollback --abandon"
#: After a target was emptied.
AGAIN = "mend the cause, then task-migration copy"
#: After the attempt was given up: the target still has the rows.
ANEW = "to begin again: task-migration rollback --scenario copy --force --reason TEXT empties the target, then task-migration copy"
END = "nothing; the plan is at its end, the old tables stay read-only"
#: Where more than the command itself decides what follows.
STATUS = "task-migration status"
MEND = "as each FAIL says, then: task-migration status"
