"""`make fuzz`: cases for an hour (`FUZZ_SECONDS`), each failure as the smallest SQL that still fails.

`python -m tests.fuzz [--seconds N] [--seed N] [--keep DIRECTORY] [FILE ...]`: with files these are played, one by one, and nothing is drawn.
Exit status 1: something was found.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from scripts.embedded.postgres_server import EmbeddedPostgres
from tests.conftest import directory_of_servers, one_server, pairs
from tests.fuzz import case as cases
from tests.fuzz import chain
from tests.fuzz.case import Case, Island
from tests.fuzz.chain import Outcome, Problem
from tests.fuzz.smaller import Smaller
from tests.fuzz.writing import drawn


@dataclass
class Fuzz:
    """Servers, and what was found with them."""

    directory: Path
    source: EmbeddedPostgres
    target: EmbeddedPostgres
    keep: Path
    found: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def play(self, case: Case) -> Outcome:
        """One chain, on fresh databases."""
        with pairs(self.source, self.target, self.directory) as make:
            return chain.run(case, make)

    def take(self, case: Case) -> None:
        """One example: what fails in a way not seen so far is made smaller and kept."""
        outcome = self.play(case)
        self.counts.update(
            examples=1,
            islands=len(case.islands),
            carried=outcome.carried,
            refused=len(outcome.refused),
            transactions=outcome.written,
            told=outcome.told,
        )
        for said in {said for one in outcome.refused.values() for said in one}:
            if (check := _bare(said.partition(" -> ")[0])) not in self.refused:
                say(f"refused: {said:.500}")
            self.refused[check] += 1
        for problem in outcome.problems:
            if kind(problem) not in self.found:
                self.found[kind(problem)] = ""
                self._narrow(case, problem)

    def _narrow(self, case: Case, problem: Problem) -> None:
        def fails(island: Island) -> bool:
            return problem.kind in self.play(Case(case.schema, (island,))).kinds

        numbers = [problem.island] if problem.island is not None else [*range(len(case.islands))]
        alone = next((case.islands[number] for number in numbers if fails(case.islands[number])), None)
        small = case if alone is None else Case(case.schema, (Smaller(alone, fails).search(),))
        written = cases.text(small, f"{problem.kind}: {problem.what}")
        self.keep.mkdir(parents=True, exist_ok=True)
        path = self.keep / f"{problem.kind}-{len(self.found)}-{os.getpid()}.sql"
        path.write_text(written)
        self.found[kind(problem)] = str(path)
        say(f"{path}\n{written}")


def say(line: str) -> None:
    """A line for who waits."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def kind(problem: Problem) -> str:
    """What makes two failures one: their words without names, numbers and values."""
    return _bare(f"{problem.kind} {problem.what}")


def _bare(words: str) -> str:
    return re.sub(r"\"[^\"]*\"|'[^']*'|\S*\d\S*|\(.*", "", words)[:90]


@contextmanager
def servers(keep: Path) -> Iterator[Fuzz]:
    """Two servers for as long as it takes."""
    with (
        directory_of_servers() as directory,
        one_server(directory, "source") as source,
        one_server(directory, "target") as target,
    ):
        yield Fuzz(directory, source, target, keep)


def _draw(fuzz: Fuzz, until: float, number: int) -> None:
    """Batches of examples, each with a seed of its own, which is said: after ten Hypothesis begins to change what it had."""
    while time.monotonic() < until:
        say(f"seed {number}: {dict(fuzz.counts)}, refused {dict(fuzz.refused)}, {len(fuzz.found)} kinds of failures")

        @seed(number)
        @settings(
            max_examples=10,
            deadline=None,
            phases=[Phase.generate],
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(drawn())
        def batch(case: Case) -> None:
            if time.monotonic() < until:
                fuzz.take(case)

        batch()
        number += 1


def main() -> int:
    """Parse, play, say."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("FUZZ_SECONDS", "3600")))
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"))
    parser.add_argument("files", nargs="*", type=Path)
    given_ = parser.parse_args()
    with servers(given_.keep) as fuzz:
        for path in given_.files:
            outcome = fuzz.play(cases.parse(path.read_text()))
            say(f"{path}: {outcome.problems or outcome.refused or f'equal, {outcome.written} transactions'}")
            fuzz.found.update({str(path): "" for _ in outcome.problems})
        if not given_.files:
            _draw(fuzz, time.monotonic() + given_.seconds, given_.seed)
            say(f"{dict(fuzz.counts)}; refused {dict(fuzz.refused)}; failures {fuzz.found}")
    return 1 if fuzz.found else 0


if __name__ == "__main__":
    sys.exit(main())
