"""What `api-check` answers."""

from __future__ import annotations

from scripts.support.document import Document


class Check(Document):
    """One request, and whether its answer is as the contract says."""

    endpoint: str
    passed: bool
    detail: str
    #: The side that answered, where it says so.
    served_by: str | None


class StaleReads(Document):
    """Answers of one side at one weight in which users did not see a write of their own that was acknowledged before."""

    side: str
    #: Percent of the requests that the Task Service gets; None when unknown.
    weight: int | None
    #: Answers about a task that the user had written.
    reads: int
    stale: int


class ApiCheck(Document):
    """The contract of the API; ``endpoints`` says of each whether all its checks passed."""

    healthy: bool
    endpoints: dict[str, bool]
    served_by: list[str]
    checks: list[Check]
    #: Clauses that need an option.
    not_checked: list[str]
    #: Reported only: what was right when it was asked for again, on a side that had not received the last write yet.
    stale_reads: list[StaleReads]
