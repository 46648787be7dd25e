"""The server of the emulated account: moto, and what it leaves out of AWS (``tasks.py``)."""

from __future__ import annotations

from moto.server import main

from scripts.rehearsal.emulated import tasks

if __name__ == "__main__":
    tasks.install()
    main()
