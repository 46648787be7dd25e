"""``python -m tests.mutants [FILE ...] [--tests PATH ...]``: puts small faults into the files and says which of them no test notices.

Works in ``mutants/`` of the working directory, made anew each time. Ends with 1 if less than 95 % are noticed, or if one is not that
survivors.txt does not list.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import mutmut.__main__ as mutmut
from mutmut import configuration
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import orig_function_and_class_names_from_key

from tests.mutants import PLACE, operators
from tests.mutants.scope import SCOPE
from tests.mutants.survivors import Survivor, listed

#: Least share of the mutants that the tests have to notice, percent.
WANTED = 95.0
#: A mutant that runs for ever is noticed too. What ended otherwise (a crash, an interrupt, no test) shows nothing.
NOTICED = ("killed", "timeout")


@dataclass(frozen=True)
class Result:
    """What became of one file's mutants."""

    file: str
    mutants: int
    survivors: tuple[Survivor, ...]

    @property
    def text(self) -> str:
        """One line."""
        killed = self.mutants - len(self.survivors)
        return f"{self.file}: {killed} of {self.mutants} noticed ({_percent(killed, self.mutants):.1f} %)"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 100.0


def run(files: list[str], tests: list[str], only: list[str], workers: int) -> list[Result]:
    """Mutates ``files`` and runs ``tests`` (paths) over each mutant, or those alone whose name a pattern of ``only`` fits; a result for each file."""
    shutil.rmtree("mutants", ignore_errors=True)
    operators.install()
    # Tests are collected from mutants/, which has its own copy of this package and of tests/model.
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    configuration._config = replace(configuration.config(), only_mutate=files, pytest_add_cli_args_test_selection=tests)
    mutmut._run(only, workers)
    return [_result(file) for file in files]


def _result(file: str) -> Result:
    found = SourceFileMutationData(path=Path(file))
    found.load()
    states = {name: status_by_exit_code[code] for name, code in found.exit_code_by_key.items() if code is not None}
    alive = [name for name, state in states.items() if state not in NOTICED]
    return Result(file, len(states), tuple(_survivor(file, name, states[name]) for name in alive))


def _survivor(file: str, name: str, state: str) -> Survivor:
    function, owner = orig_function_and_class_names_from_key(name)
    lines = get_diff_for_mutant(name, path=file).splitlines()
    change = tuple(
        f"{line[0]} {line[1:].strip()}" for line in lines if line[:1] in "-+" and line[:3] not in ("---", "+++")
    )
    return Survivor(file, f"{owner}.{function}" if owner else function, change, state)


def tell(results: list[Result], known: list[Survivor], *, partly: bool) -> bool:
    """Prints the results, each file's unlisted survivors below it; whether all is as it has to be."""
    good = True
    for result in results:
        _say(result.text)
        for survivor in result.survivors:
            if survivor not in known:
                good = False
                _say(f"\n{survivor.text}\n= {survivor.why}\n")
    gone = (
        []
        if partly
        else [one for one in known for result in results if one.file == result.file and one not in result.survivors]
    )
    for one in gone:
        _say(f"listed in survivors.txt, and no longer there; take it out:\n{one.text}\n")
    mutants = sum(result.mutants for result in results)
    killed = mutants - sum(len(result.survivors) for result in results)
    _say(f"in all {killed} of {mutants} noticed ({_percent(killed, mutants):.1f} %), at least {WANTED:g} % are wanted")
    return good and not gone and _percent(killed, mutants) >= WANTED


def each(files: list[str], only: list[str], workers: int) -> list[str]:
    """Each file by its own tests and in a process of its own, as it is run alone; those that are not as wanted."""
    failed = []
    for file in files:
        begun = time.monotonic()
        command = [sys.executable, "-m", "tests.mutants", file, "--workers", str(workers)]
        done = subprocess.run(
            [*command, *(["--only", *only] if only else [])], stdout=subprocess.PIPE, text=True, check=False
        )
        _, _, said = done.stdout.rpartition(f"\n{file}: ")
        _say(
            f"{file}: {said.rpartition('in all ')[0].strip() or done.stdout[-2000:]} in {time.monotonic() - begun:.0f} s"
        )
        sys.stdout.flush()
        failed += [file] if done.returncode else []
    return failed


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("files", nargs="*", help="files of tests/mutants/scope.py; none: all of them")
    parser.add_argument("--tests", nargs="+", default=[], help="paths of tests, in the place of those of the scope")
    parser.add_argument("--only", nargs="+", default=[], help="patterns of mutmut's names: '*decide*'")
    parser.add_argument("--workers", type=int, default=1, help="mutants at a time")
    arguments = parser.parse_args()
    files = arguments.files or list(SCOPE)
    if len(files) > 1 and not arguments.tests:
        failed = each(files, arguments.only, arguments.workers)
        _say(
            f"{len(files) - len(failed)} of {len(files)} files are as they have to be; not {', '.join(failed) or 'one'}"
        )
        return int(bool(failed))
    tests = arguments.tests or list(SCOPE[files[0]])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as kept:
        Path(kept).chmod(0o755)  # PostgreSQL's system user goes in
        os.environ[PLACE] = f"{arguments.workers} {kept}"
        results = run(files, tests, arguments.only, arguments.workers)
    return 0 if tell(results, listed(), partly=bool(arguments.only)) else 1


if __name__ == "__main__":
    sys.exit(main())
