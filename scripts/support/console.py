"""What commands say to people while they work, on standard error, without passwords."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from scripts.support.redact import redact

err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str, style: str = "") -> None:
    """Print one message for people (standard error); markup in it is not interpreted."""
    err.print(Text(redact(message), style=style))
