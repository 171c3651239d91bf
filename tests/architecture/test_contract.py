"""`make contract` keeps a right adapter and finds the mistake of a wrong one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import wrong_adapters
from tests.thoroughness import sampled

ROOT = Path(__file__).parent.parent.parent
BROKEN = {
    wrong_adapters.RemovesByIdAlone: "A late removal leaves a newer connection with the id.",
    wrong_adapters.ReplacesNewerConnections: "An older connection does not replace a newer one.",
    wrong_adapters.RevivesAfterATombstone: "A connection with a tombstone is not added.",
    wrong_adapters.BuriesNewerConnections: "A tombstone does not replace a newer connection.",
    wrong_adapters.RaisesForAnUnknownId: "Removing an unknown id is no error.",
    wrong_adapters.RemovesTombstones: "Removing leaves a tombstone.",
    wrong_adapters.LosesAttributes: "A connection comes back as it was added.",
    wrong_adapters.LosesConcurrentWrites: "Concurrent calls from several threads are safe.",
    wrong_adapters.ListsTombstones: "The pages have everything but the tombstones.",
    wrong_adapters.PagesThatOverlap: "The pages have everything but the tombstones.",
    wrong_adapters.PagesThatSkip: "The pages have everything but the tombstones.",
    wrong_adapters.SegmentsThatOverlap: "The segments are complete and disjoint.",
    wrong_adapters.DeletesWhateverHasTheId: "Delete exact leaves another connection with the id.",
    wrong_adapters.TakesAnyToken: "A page token of another selection is refused.",
    wrong_adapters.FindsTombstones: "A tombstone replaces a connection and returns it.",
}


def contract(store: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The contract tests of the two ports on the adapter *store*."""
    tests = [f"tests/contract/test_connection_{port}.py" for port in ("store", "table")]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--quiet", "--tb=no", "-p", "no:cacheprovider", *tests, *arguments],
        cwd=ROOT,
        env=os.environ | {"CONTRACT_STORE": store, "DOCKER_HOST": "unix:///nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_mistake_is_reported_as_the_promise_that_it_breaks() -> None:
    for adapter, promise in sampled(list(BROKEN.items()), one_in=5):
        result = contract(f"tests.wrong_adapters:{adapter.__name__}")

        assert result.returncode == 1, result.stdout
        assert f"  BROKEN  {promise}\n" in result.stdout, adapter


@pytest.mark.parametrize("name", ["Wrong", "resettable"])
def test_an_adapter_without_a_mistake_keeps_every_promise(name: str) -> None:
    result = contract(f"tests.wrong_adapters:{name}")

    assert result.returncode == 0, result.stdout
    assert "BROKEN" not in result.stdout
    assert f"| contract of `tests.wrong_adapters:{name}` | promises | kept |" in result.stdout


def test_every_wrong_adapter_has_its_broken_promise() -> None:
    assert set(BROKEN) == {
        it for it in wrong_adapters.Wrong.__subclasses__() if not it.__name__.startswith("_")
    }


@pytest.mark.parametrize(
    ("store", "sentence"),
    [
        ("no_such_package:factory", "STORE=no_such_package:factory can't be imported: No module named"),
        ("builtins:dict", "dict lacks add, delete_exact, page, remove, scan, tombstone, needed by the"),
        ("tests.wrong_adapters:not_empty", "the storage is not empty, and what the factory returns has no"),
    ],
)
def test_an_adapter_that_can_not_be_had_ends_the_run_with_a_sentence(store: str, sentence: str) -> None:
    result = contract(store)

    assert result.returncode == 2
    assert sentence in result.stdout + result.stderr
