"""Percentiles, and the part of CloudWatch's metric math that the product's alarms use (Amazon CloudWatch, 'Using metric math')."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence

#: Values by the begin of their period, seconds since the epoch.
Series = Mapping[float, float]
_OPERATORS: Mapping[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Eq: operator.eq,
}  # fmt: skip


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of values in rising order; None of none."""
    if not ordered:
        return None
    rank = max(1, -(-len(ordered) * share // 100))
    return ordered[int(rank) - 1]


class _Scalar(float):
    """A number that is in no period."""


def calculate(expression: str, series: Mapping[str, Series], periods: Sequence[float]) -> Series:
    """The value of ``expression`` over ``series`` by their Ids in each of ``periods``, which are all that were asked for. What is not
    finite is a gap, as CloudWatch takes none.

    Raises:
        ValueError: it is no metric math, or more of it than is known here.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{expression!r} is no expression: {error.msg}") from None
    there = {key: {at: value for at, value in one.items() if math.isfinite(value)} for key, one in series.items()}
    found = {at: _value(tree, {key: one.get(at) for key, one in there.items()}) for at in periods}
    return {at: float(value) for at, value in found.items() if value is not None and math.isfinite(value)}


def _value(node: ast.AST, values: Mapping[str, float | None]) -> float | None:
    """Of one period; None is a gap. Where an IF's condition, if it is a series, holds in a period, a gap is 0."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return _Scalar(number)
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.BinOp(left=left, op=kind, right=right) | ast.Compare(left=left, ops=[kind], comparators=[right]) if (
            type(kind) in _OPERATORS
        ):
            return _both(_OPERATORS[type(kind)], _value(left, values), _value(right, values))
        case ast.Call(func=ast.Name(id="IF"), args=[condition, yes, *no]) if len(no) <= 1:
            holds = _value(condition, values)
            if not holds:
                return _value(no[0], values) if no and holds is not None else None
            found = _value(yes, values)
            return 0.0 if found is None and not isinstance(holds, _Scalar) else found
        case ast.Call(func=ast.Name(id="FILL"), args=[sparse, filler]):
            found = _value(sparse, values)
            return _value(filler, values) if found is None else found
    raise ValueError(f"{ast.unparse(node)!r} is not known; teach it in scripts/rehearsal/emulated/metric_math.py")


def _both(of: Callable[[float, float], float], left: float | None, right: float | None) -> float | None:
    """A gap counts as 0 beside a value of the period, and what is divided by 0, or is not finite, is a gap."""
    if all(one is None or isinstance(one, _Scalar) for one in (left, right)) and None in (left, right):
        return None
    try:
        found = of(left or 0.0, right or 0.0)
    except ZeroDivisionError:
        return None
    if not math.isfinite(found):
        return None
    return _Scalar(found) if isinstance(left, _Scalar) and isinstance(right, _Scalar) else float(found)
