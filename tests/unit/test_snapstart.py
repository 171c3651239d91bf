"""The hooks of SnapStart: the parts are suspended, and resumed in the order in which they were built."""

import pytest
import snapshot_restore_py
from awslambdaric.lambda_runtime_hooks_runner import run_after_restore, run_before_snapshot

from app.containers import snapstart


class Part:
    """A part that notes its calls, and *resumes* or does not."""

    def __init__(self, name: str, calls: list[str], *, resumes: bool = True) -> None:
        self._name = name
        self._calls = calls
        self._resumes = resumes

    def suspend(self) -> None:
        self._calls.append(f"{self._name} suspended")

    def resume(self) -> bool:
        self._calls.append(f"{self._name} resumed")
        return self._resumes


@pytest.fixture(autouse=True)
def no_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_restore_py, "_before_snapshot_registry", [])
    monkeypatch.setattr(snapshot_restore_py, "_after_restore_registry", [])
    monkeypatch.setattr(snapstart, "_parts", [])


def test_each_part_is_suspended_and_after_each_restore_resumed_in_order() -> None:
    calls: list[str] = []
    parts = [Part("credentials", calls), Part("connection", calls)]

    assert [snapstart.restorable(part) for part in parts] == parts
    run_before_snapshot()
    run_after_restore()
    run_after_restore()

    assert sorted(calls[:2]) == ["connection suspended", "credentials suspended"]
    assert calls[2:] == ["credentials resumed", "connection resumed"] * 2


def test_no_part_is_resumed_after_one_that_failed() -> None:
    """All time-outs together may be longer than what Lambda gives them."""
    calls: list[str] = []
    snapstart.restorable(Part("credentials", calls, resumes=False))
    snapstart.restorable(Part("connection", calls))

    run_after_restore()

    assert calls == ["credentials resumed"]
