"""`python -m tests.machine [--seconds N] [--seed N] [--steps N]`: migrations in any order until time is over. Exit status 1: something was found.

Each batch has a seed, which is said; `--seed` plays it again.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from contextlib import ExitStack

from tests.conftest import directory_of_servers, one_server, pairs
from tests.machine.rules import play
from tests.machine.world import World


def main() -> int:
    """Parse, play, say."""
    parser = argparse.ArgumentParser(prog="python -m tests.machine")
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--steps", type=int, default=12)
    given = parser.parse_args()
    found, number = 0, given.seed
    with (
        directory_of_servers() as directory,
        one_server(directory, "source") as source,
        one_server(directory, "target") as target,
    ):

        def make(held: ExitStack) -> World:
            return World(held.enter_context(pairs(source, target, directory)))

        # Counted from here: one batch again, by its seed and a second, has to be played whatever its servers took.
        until = time.monotonic() + given.seconds
        while time.monotonic() < until:
            sys.stdout.write(f"seed {number}, {found} found\n")
            sys.stdout.flush()
            try:
                play(make, number, examples=3, steps=given.steps)
            except Exception:  # noqa: BLE001 - whatever it is, it was found, and the next batch is played
                found += 1
                traceback.print_exc(file=sys.stdout)
            number += 1
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
