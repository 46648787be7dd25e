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


class ApiCheck(Document):
    """The contract of the API; ``endpoints`` says of each whether all its checks passed."""

    healthy: bool
    endpoints: dict[str, bool]
    served_by: list[str]
    checks: list[Check]
    #: Clauses that need an option.
    not_checked: list[str]
