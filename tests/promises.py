"""``make contract STORE=...``: the contract tests on one storage adapter, and the result in sentences."""

from collections import defaultdict
from pathlib import Path

import pytest

CHOSEN = "CONTRACT_STORE"
"""The variable with the adapter's import path, or a name in tests/stores.py."""

ITS_PATH = "CONTRACT_PATH"
"""The variable with the folders that have the adapter's package and all that it imports."""

_TITLES = {
    "test_connection_store.py": "ConnectionStore: add, remove, tombstone",
    "test_connection_table.py": "ConnectionTable: get, scan, page, delete_exact",
    "test_recipients.py": "Recipients of a message",
    "test_orders.py": "Every order of the events of two connections with one id",
    "test_interleavings.py": "Random interleavings of clients, functions and sweeps",
    "test_processes.py": "Several processes that write at the same time",
}


class Promises:
    """A pytest plugin: it runs the tests of the storage ports alone, and reports each as a promise."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._promises: dict[str, dict[str, set[str]]] = {file: defaultdict(set) for file in _TITLES}
        self._why_left_out: dict[tuple[str, str], str] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests that are parametrized with the adapter."""
        items[:] = [item for item in items if self._is_about_the_store(item)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            file, name = Path(report.fspath).name, report.location[2].partition("[")[0]
            self._promises[file][name].add(
                "error" if report.failed and report.when != "call" else report.outcome
            )
            if isinstance(report.longrepr, tuple):  # of a test that was skipped
                self._why_left_out[file, name] = report.longrepr[2].removeprefix("Skipped: ")

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, exitstatus: pytest.ExitCode
    ) -> None:
        if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return  # the run was ended before its end; the last line says why
        terminalreporter.section("promises")
        for file, title in _TITLES.items():
            terminalreporter.line(title, bold=True)
            for name, outcomes in sorted(self._promises[file].items()):
                sentence = name.removeprefix("test_").replace("_", " ").capitalize()
                if "failed" in outcomes:
                    terminalreporter.line(f"  BROKEN    {sentence}.", red=True)
                elif "error" in outcomes:
                    terminalreporter.line(f"  error     {sentence}.", red=True)
                elif "skipped" in outcomes:
                    terminalreporter.line(f"  left out  {sentence}: {self._why_left_out[file, name]}.")
                else:
                    terminalreporter.line(f"  kept      {sentence}.")
        terminalreporter.section("for your README")
        terminalreporter.line(f"| contract of `{self._store}` | promises | kept |")
        terminalreporter.line("|---|---|---|")
        for file, title in _TITLES.items():
            promises = self._promises[file]
            kept = sum(outcomes == {"passed"} for outcomes in promises.values())
            why = {self._why_left_out[file, name] for name in promises if (file, name) in self._why_left_out}
            left_out = f", left out: {'; '.join(sorted(why))}" if why else ""
            terminalreporter.line(f"| {title} | {len(promises)} | {kept}{left_out} |")

    def _is_about_the_store(self, item: pytest.Item) -> bool:
        return (
            isinstance(item, pytest.Function)
            and item.path.name in _TITLES
            and hasattr(item, "callspec")
            and self._store in item.callspec.params.values()
        )
