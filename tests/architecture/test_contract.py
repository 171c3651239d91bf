"""`make contract` keeps a right adapter and finds the mistake of a wrong one."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests import wrong_adapters
from tests.thoroughness import REPEATABLE, sampled

ROOT = Path(__file__).parent.parent.parent
BROKEN = {
    wrong_adapters.RemovesByIdAlone: "A late removal leaves a newer connection with the id.",
    wrong_adapters.ReplacesNewerConnections: "An older connection does not replace a newer one.",
    wrong_adapters.KeepsTheFirstTombstone: "A repeated tombstone is kept until the later end.",
    wrong_adapters.RevivesAfterATombstone: "A connection with a tombstone is not added.",
    wrong_adapters.ReplacesNewerConnectionsByTombstones: "A tombstone does not replace a newer connection.",
    wrong_adapters.RaisesForAnUnknownId: "Removing an unknown id is no error.",
    wrong_adapters.RemovesTombstones: "Removing leaves a tombstone.",
    wrong_adapters.LosesAttributes: "A connection comes back as it was added.",
    wrong_adapters.LosesConcurrentWrites: "Concurrent calls from several threads are safe.",
    wrong_adapters.ListsTombstones: "The pages have everything but the tombstones.",
    wrong_adapters.PagesThatOverlap: "The pages have everything but the tombstones.",
    wrong_adapters.PagesThatSkip: "The pages have everything but the tombstones.",
    wrong_adapters.SegmentsThatOverlap: "The segments are complete and disjoint.",
    wrong_adapters.SegmentsWithoutEnd: "The segments are complete and disjoint.",
    wrong_adapters.EverythingInOneSegment: "Every segment has its share of the entries.",
    wrong_adapters.DeletesWhateverHasTheId: "Delete exact leaves another connection with the id.",
    wrong_adapters.TakesAnyToken: "A page token of another selection is refused.",
    wrong_adapters.FindsTombstones: "A tombstone is not found.",
    wrong_adapters.LosesWritesOfOtherProcesses: "Of concurrent adds to one id the newest connection stays.",
    wrong_adapters.RemovesInTwoSteps: (
        "A newer connection survives concurrent removals and tombstones of an older one."
    ),
    wrong_adapters.DeletesInTwoSteps: (
        "A newer connection survives concurrent exact deletes of an older one."
    ),
    wrong_adapters.AnswersBeforeTheWriteIsDurable: "A confirmed write outlives its process.",
}
RIGHT = (wrong_adapters.Right, wrong_adapters.InAFile)
NOT_EMPTY = (wrong_adapters.NotEmpty, wrong_adapters.InUse, wrong_adapters.NotReset)
PORTS = ("tests/contract/test_connection_store.py", "tests/contract/test_connection_table.py")
PROCESSES = "tests/contract/test_processes.py"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"ENTRIES_FILE": str(tmp_path / "entries"), "DOCKER_HOST": "unix:///nonexistent"}


def contract(
    store: str, tests: Sequence[str], environ: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--quiet", "--tb=no", "-p", "no:cacheprovider", *REPEATABLE, *tests],
        cwd=ROOT,
        env={**environ, "CONTRACT_STORE": store},
        capture_output=True,
        text=True,
        check=False,
    )


def named(promise: str) -> str:
    """The name of the test that is reported as *promise*."""
    return "test_" + promise.lower().replace(" ", "_").removesuffix(".")


@pytest.mark.parametrize("part", range(3))
def test_a_mistake_is_reported_as_the_promise_that_it_breaks(part: int, environ: Mapping[str, str]) -> None:
    for adapter, promise in sampled(list(BROKEN.items())[part::3], one_in=5, one_in_ci=2):
        tests = [PROCESSES] if issubclass(adapter, wrong_adapters.InAFile) else PORTS

        result = contract(f"tests.wrong_adapters:{adapter.__name__}", [*tests, "-k", named(promise)], environ)

        assert result.returncode == 1, result.stdout
        assert f"  BROKEN    {promise}\n" in result.stdout, adapter


@pytest.mark.parametrize("name", ["Right", "InAFile", "WithoutPageSize"])
def test_an_adapter_without_a_mistake_keeps_every_promise(name: str, environ: Mapping[str, str]) -> None:
    result = contract(f"tests.wrong_adapters:{name}", [*PORTS, PROCESSES], environ)

    assert result.returncode == 0, result.stdout
    assert "BROKEN" not in result.stdout
    assert f"| contract of `tests.wrong_adapters:{name}` | promises | kept |" in result.stdout


def test_what_the_storage_does_not_offer_is_left_out(environ: Mapping[str, str]) -> None:
    result = contract("tests.wrong_adapters:HandshakesOnly", [*PORTS, PROCESSES], environ)

    assert result.returncode == 0, result.stdout
    assert "BROKEN" not in result.stdout
    assert "  left out  A page has whole connections: the adapter has no method of Conn" in result.stdout
    assert " | 0, left out: each process has a storage of its own |" in result.stdout


def test_every_wrong_adapter_has_its_broken_promise() -> None:
    adapters = [it for it in vars(wrong_adapters).values() if isinstance(it, type)]
    assert set(BROKEN) == {it for it in adapters if issubclass(it, wrong_adapters.Right)} - {
        *RIGHT,
        *NOT_EMPTY,
    }


@pytest.mark.parametrize(
    ("store", "sentence"),
    [
        (
            "no_such_package:factory",
            "STORE=no_such_package:factory can't be imported: ModuleNotFoundError: No",
        ),
        ("builtins:dict", "dict lacks add, remove, tombstone, needed by $connect and $disconnect."),
        ("tests.wrong_adapters:WithoutDeletes", "WithoutDeletes has a part of ConnectionTable and lacks del"),
        ("tests.wrong_adapters:NotEmpty", "it is not empty, and what the factory returns has no reset()."),
        ("tests.wrong_adapters:NotReset", "it is not empty, and reset() left it so."),
        ("tests.wrong_adapters:InUse", "the storage is not empty, and the tests would delete what it has."),
        ("tests.wrong_adapters:at_fault", "STORE=tests.wrong_adapters:at_fault can't be loaded:"),
        ("tests.wrong_adapters", "STORE must be one of: dynamodb, dynamodb-boto3, memory, or an import path"),
    ],
)
def test_an_adapter_that_can_not_be_tested_ends_the_run_with_a_sentence(
    store: str, sentence: str, environ: Mapping[str, str]
) -> None:
    result = contract(store, PORTS, environ)

    assert result.returncode == 2
    assert sentence in result.stdout + result.stderr
    assert "for your README" not in result.stdout
