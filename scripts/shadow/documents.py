"""What `shadow` answers. No value of a row stands in it: it is kept."""

from __future__ import annotations

from scripts.shadow.compare import Kind
from scripts.support.document import Document


class FieldDifference(Document):
    """One field that the two sides answer differently, in the same way each time."""

    #: `[]` stands for each entry of a list; `status` for the answer as a whole.
    field: str
    kind: Kind
    #: How the two differ, without their values; of the first such answer.
    detail: str
    #: Answers with this difference.
    answers: int
    #: A request that shows it, and the row's id in its answer.
    example: str


class ShadowEndpoint(Document):
    """One read endpoint: what was compared and what differs."""

    endpoint: str
    #: Answers that were compared.
    answers: int
    #: Answers that could not be: the monolith's two never agreed, or it did not answer.
    unsettled: int
    #: Of those compared.
    different: int
    differences: list[FieldDifference]
    #: Fields that had no value, or none that held still, in any answer: nothing is known of them.
    unseen: list[str]
    #: Times that are the same and written otherwise, which fails nothing: a client that reads them as text may mind.
    respelled: list[str]


class Shadow(Document):
    """Whether both sides answer the same."""

    match: bool
    users: int
    #: In all, to both sides.
    requests: int
    #: The longest wait until what the monolith had committed was on the target.
    fence_seconds: float
    #: Whether the answers said who gave them (`x-served-by`): by that nobody was compared with himself.
    told_apart: bool
    seconds: float
    endpoints: list[ShadowEndpoint]
