"""``make contract STORE=...``: the contract tests on one storage adapter, and the result in sentences."""

from collections import defaultdict
from pathlib import Path

import pytest

CHOSEN = "CONTRACT_STORE"
"""The variable with the adapter's import path, or a name in tests/stores.py."""

_TITLES = {
    "test_connection_store.py": "ConnectionStore: add, remove, tombstone",
    "test_connection_table.py": "ConnectionTable: get, scan, page, delete_exact",
    "test_orders.py": "Every order of the events of two connections with one id",
    "test_interleavings.py": "Random interleavings of clients, functions and sweeps",
    "test_processes.py": "Several processes that write at the same time",
}


class Promises:
    """A pytest plugin: it runs the tests of the storage ports alone, and reports each as a promise."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._promises: dict[str, dict[str, set[str]]] = {file: defaultdict(set) for file in _TITLES}
        self._why_left_out: dict[str, str] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the tests that are parametrized with the adapter."""
        others = [item for item in items if not self._is_about_the_store(item)]
        items[:] = [item for item in items if self._is_about_the_store(item)]
        config.hook.pytest_deselected(items=others)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            file, name = Path(report.fspath).name, report.location[2].partition("[")[0]
            self._promises[file][name.removeprefix("test_")].add(report.outcome)
            if isinstance(report.longrepr, tuple):  # of a test that was skipped
                self._why_left_out[file] = report.longrepr[2].removeprefix("Skipped: ")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not any(self._promises.values()):  # the adapter could not be had; the end of the output says why
            return
        terminalreporter.section("promises")
        for file, title in _TITLES.items():
            why = f", left out: {self._why_left_out[file]}" if file in self._why_left_out else ""
            terminalreporter.line(f"{title}{why}", bold=True)
            for name, outcomes in sorted(self._promises[file].items()):
                if "skipped" not in outcomes:
                    verdict = "BROKEN" if "failed" in outcomes else "kept  "
                    sentence = name.replace("_", " ").capitalize()
                    terminalreporter.line(f"  {verdict}  {sentence}.", red="failed" in outcomes)
        terminalreporter.section("for your README")
        terminalreporter.line(f"| contract of `{self._store}` | promises | kept |")
        terminalreporter.line("|---|---|---|")
        for file, title in _TITLES.items():
            promises = self._promises[file].values()
            kept = sum(outcomes == {"passed"} for outcomes in promises)
            terminalreporter.line(
                f"| {title} | {len(promises)} | {kept or self._why_left_out.get(file, 0)} |"
            )

    def _is_about_the_store(self, item: pytest.Item) -> bool:
        return (
            isinstance(item, pytest.Function)
            and item.path.name in _TITLES
            and hasattr(item, "callspec")
            and self._store in item.callspec.params.values()
        )
