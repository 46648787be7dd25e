"""The suite notices the faults of tests/mutants/faults.py, and what it is told of them is true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants.faults import FAULTS, Fault, copied, run, unnoticed


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree."""
    return copied(tmp_path_factory.mktemp("faults") / "tree")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_noticed(tree: Path, fault: Fault) -> None:
    """Prevents a change of the tests after which one of the dearest faults would pass."""
    assert unnoticed(tree, fault) is None


def test_without_a_fault_the_same_tests_pass(tree: Path) -> None:
    """Prevents faults that count as noticed as the copy itself is broken."""
    # Those with servers take half a minute, and find nothing in the copy that these do not.
    unit = [test for fault in FAULTS for test in fault.tests if test.startswith("tests/unit/")]
    done = run(tree, dict.fromkeys(unit))
    assert done.returncode == 0, done.stdout


def test_a_fault_that_no_test_notices_and_one_that_no_longer_applies_are_told(tree: Path) -> None:
    """Prevents a check that cannot fail."""
    first, blind = FAULTS[0], "tests/unit/support/test_order.py"
    before = (tree / first.file).read_bytes()
    passed = unnoticed(tree, replace(first, tests=(blind,)))
    assert passed is not None
    assert passed.startswith(f"{first.name}: not noticed by {blind} (pytest ended with 0)")
    none = unnoticed(tree, replace(first, tests=(f"{blind}::test_of_another_name",)))
    assert none is not None
    assert "(pytest ended with 4)" in none
    with pytest.raises(LookupError, match="stands 0 times in scripts/canary/cloudwatch.py; limit: once"):
        unnoticed(tree, replace(first, old="PERCENTILES = ()"))
    assert (tree / first.file).read_bytes() == before
