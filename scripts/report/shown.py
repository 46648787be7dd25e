"""How a report shows moments, spans and figures: the same everywhere on the page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

Figure = int | float
#: Most decimals that a figure is shown with; smaller ones get as many as show that they are not 0.
DECIMALS = 3
DAY = 86_400
#: Control characters, and halves of surrogate pairs.
UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def elapsed(seconds: float, tenths: bool = True) -> str:
    """Seconds since the begin as ``m:ss.t``, ``h:mm:ss.t`` or ``1 d 2:03:04.5``; what is finer is cut off."""
    total = int(round(abs(seconds), 3) * 10)
    whole, tenth = divmod(total, 10)
    days, rest = divmod(whole, DAY)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    sign = "-" if seconds < 0 and total else ""
    day, hour = f"{days} d " if days else "", f"{hours}:{minutes:02}" if days or hours else f"{minutes}"
    return f"{sign}{day}{hour}:{rest:02}" + (f".{tenth}" if tenths else "")


def clock(at: float, form: str = "%H:%M:%S") -> str:
    """Seconds since the epoch as a time of day, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime(form)


def decimals(values: Iterable[Figure | None]) -> int:
    """How many decimals show each of these figures without cutting off more than a thousandth of a unit."""
    most = 0
    for value in values:
        if isinstance(value, float) and value:
            least = DECIMALS if abs(value) >= 10**-DECIMALS else 6
            most = max(most, len(f"{value:.{least}f}".rstrip("0").partition(".")[2]))
    return most


def figure(value: Figure | None, places: int | None = None) -> str:
    """A figure with thousands apart; ``places`` decimals, or as many as it needs. None is a dash."""
    if value is None:
        return "–"
    return f"{value:,.{decimals([value]) if places is None else places}f}"


def short(value: float) -> str:
    """A figure for an axis: 1.5 k, 20 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == ' k' else size):,.4g}{unit}"
    return f"{value:,.6g}"


def clean(value: object) -> object:
    """Text without what no document may hold; all else as it is."""
    return UNFIT.sub("\N{REPLACEMENT CHARACTER}", value) if type(value) is str else value
