"""Which faults mutmut puts in: its own, less those in the words of messages, and with calls left out and conditions turned round."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst
from mutmut.mutation import file_mutation, mutators


def other_string(node: cst.BaseString) -> Iterable[cst.BaseString]:
    """Another value in the place of a name (a key, a state, a metric). A text with a blank in it is a sentence or SQL: left as it is."""
    if isinstance(node, cst.SimpleString) and " " not in node.value and node.raw_value:
        yield node.with_changes(value=f"{node.prefix}{node.quote}XX{node.raw_value}XX{node.quote}")


def no_call(node: cst.Expr) -> Iterable[cst.CSTNode]:
    """A statement that only calls, left out."""
    if isinstance(node.value, cst.Call | cst.Yield | cst.Await):
        yield cst.Pass()


def other_way(node: cst.If | cst.CompIf) -> Iterable[cst.CSTNode]:
    """A condition that mutmut's operators leave as it is, turned round."""
    if isinstance(node.test, cst.Name | cst.Attribute | cst.Call | cst.NamedExpr):
        turned = cst.UnaryOperation(cst.Not(), node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()]))
        yield node.with_changes(test=turned)


def install() -> None:
    """Makes these mutmut's operators, in this process and those that it forks."""
    own: mutators.OPERATORS_TYPE = [
        (cst.BaseString, other_string),
        (cst.Expr, no_call),
        (cst.If, other_way),
        (cst.CompIf, other_way),
    ]
    kept = [one for one in mutators.mutation_operators if one[1] is not mutators.operator_string]
    # What reads the list has its own name for it.
    vars(file_mutation)["mutation_operators"] = [*kept, *own]
