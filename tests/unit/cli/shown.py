"""What a view prints, as text."""

from __future__ import annotations

import io

from rich.console import Console

from scripts.cli.view import View, render


def shown(view: View, width: int = 80) -> str:
    """The lines of a view at this width, in columns, without colour and without the blanks at their ends."""
    out = io.StringIO()
    render(view, Console(file=out, width=width, highlight=False))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
