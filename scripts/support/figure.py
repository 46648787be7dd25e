"""What counts as a figure: anything else that a metric, a document or a database says was not measured; and counts in words."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator


def figure(value: Any) -> float | None:
    """The number as it is; None where it is none, is not finite or is below 0: compared with a limit, NaN would stay within each."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) and value >= 0 else None
    except OverflowError:  # a whole number of more than 308 digits
        return None


#: A field of a document or a dataclass that takes what was not measured as None.
Figure = Annotated[float | None, BeforeValidator(figure)]


def short(value: float, digits: int = 4) -> str:
    """So many of its digits, and never a power of ten, which nobody reads at night: ``0.04975``, ``100``, ``60,000``."""
    text = f"{value:.{digits}g}"
    return f"{value:,.0f}" if "e+" in text else text


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 table``, ``2 tables``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
