"""What a person reads of shadow: a document in, a view out. No I/O."""

from __future__ import annotations

from rich.console import Group, RenderableType

from scripts.cli.view import Column, View, finding, table
from scripts.shadow.documents import Shadow, ShadowEndpoint
from scripts.support import commands
from scripts.support.figure import counted


def shadow(document: Shadow) -> View:
    """What differs between the two sides' answers."""
    columns: list[str | Column] = [
        "endpoint",
        *(Column(name, True) for name in ("compared", "unsettled", "fields differ")),
    ]
    rows = [(one.endpoint, one.answers, one.unsettled, len(one.differences)) for one in document.endpoints]
    told = [line for one in document.endpoints for line in _told(one)]
    if not document.told_apart:
        text = "the answers do not say who gave them (x-served-by): that the Task Service was asked is known by the smoke rule alone"
        told.append(finding("warning", text))
    parts: list[RenderableType] = [table(columns, rows), *([Group(*told)] if told else [])]
    took = f"{counted(document.requests, 'request')} in {document.seconds:,.0f} s, the longest fence {document.fence_seconds:.2f} s"
    answers = counted(sum(one.answers for one in document.endpoints), "answer")
    if document.match:
        verdict = f"Both sides answer {counted(document.users, 'user')} alike: {answers} compared; {took}."
        return View(verdict, "good", parts, commands.STEP)
    differ = counted(sum(len(one.differences) for one in document.endpoints), "field")
    verdict = f"The Task Service answers otherwise than the monolith in {differ}: {answers} of {counted(document.users, 'user')} compared; {took}."
    return View(verdict, "bad", parts, "mend the Task Service, then task-migration shadow again")


def _told(one: ShadowEndpoint) -> list[RenderableType]:
    told = [
        finding(
            "bad",
            f"{one.endpoint}, {each.field}: {each.detail}; in {counted(each.answers, 'answer')}, for example {each.example}",
        )
        for each in one.differences
    ]
    if one.respelled:
        told.append(
            finding("warning", f"{one.endpoint}: the same times, written otherwise: {', '.join(one.respelled)}")
        )
    if one.unseen:
        told.append(finding("plain", f"{one.endpoint}: no value held still to compare: {', '.join(one.unseen)}"))
    return told
