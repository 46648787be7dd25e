"""What the journal holds: each step's name and its events, once. What is read back is found by these names and no others."""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """Whose event it is."""

    PREFLIGHT = "preflight"
    BACKUP = "backup"
    SCHEMA = "schema"
    COPY = "copy"
    REPLICATE = "replicate"
    VERIFY = "verify"
    SHADOW = "shadow"
    CANARY = "canary"
    ROLLBACK = "rollback"
    FINALIZE = "finalize"
    ABANDON = "abandon"


class PreflightEvent(StrEnum):
    """Of `preflight`."""

    CHECKED = "checked"


class BackupEvent(StrEnum):
    """Of `backup`."""

    VERIFIED = "verified"
    FAILED = "failed"


class SchemaEvent(StrEnum):
    """Of `schema apply`."""

    APPLIED = "applied"


class CopyEvent(StrEnum):
    """Of `copy`; between slot and complete one event for each piece of work, named by its kind."""

    STARTED = "started"
    SLOT = "slot"
    #: Rows of each table that were moved so far; of a long copy.
    MOVED = "moved"
    #: All rows of one table.
    ROWS = "rows"
    COMPLETE = "complete"
    FAILED = "failed"


class ReplicateEvent(StrEnum):
    """Of `replicate`."""

    STARTING = "starting"
    STARTED = "started"
    ALREADY_RUNNING = "already-running"
    STOPPED = "stopped"
    DMS_STARTED = "dms-started"
    DMS_RESUMED = "dms-resumed"
    DMS_RUNNING_ALREADY = "dms-running-already"
    LOGIN_MADE = "login-made"


class VerifyEvent(StrEnum):
    """Of `verify`; the canary's gate reads the newest comparison."""

    COMPARED = "compared"
    REPAIRED = "repaired"
    NO_FENCE = "no-fence"


class ShadowEvent(StrEnum):
    """Of `shadow`."""

    COMPARED = "compared"


class CanaryEvent(StrEnum):
    """Of `canary`; :mod:`scripts.canary.history` reads back begun, moved and decided."""

    BEGUN = "begun"
    MOVED = "moved"
    DECIDED = "decided"
    METRICS_UNREADABLE = "metrics-unreadable"
    FENCE_FAILED = "fence-failed"
    NOTICE_FAILED = "notice-failed"
    LOCK_TAKEN_OVER = "lock-taken-over"
    SERVICE_STARTED = "service-started"


class RollbackEvent(StrEnum):
    """Of `rollback`; :mod:`scripts.canary.history` reads back begun, routed and done."""

    BEGUN = "begun"
    ROUTED = "routed"
    UNPROVEN = "unproven"
    DONE = "done"
    EMPTYING = "emptying"
    EMPTIED = "emptied"
    NOT_DRAINED = "not-drained"


class FinalizeEvent(StrEnum):
    """Of `finalize`; from revoking on the target holds the current rows, until a rollback gives the rights back."""

    REVOKING = "revoking"
    GIVEN_BACK = "given-back"
    VERIFIED = "verified"
    FINALIZED = "finalized"


class AbandonEvent(StrEnum):
    """Of `rollback --abandon`."""

    ABANDONING = "abandoning"
    ABANDONED = "abandoned"
    NOTHING_THERE = "nothing-there"
