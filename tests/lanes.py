"""The test lanes, what each needs of the machine, and the summary that says what ran."""

import os
import shutil
from collections import Counter, defaultdict
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import NoReturn

import docker
import pytest
from docker.errors import DockerException, ImageNotFound

_ROOT = Path(__file__).parent.parent

LANES = ("unit", "contract", "integration", "image", "stack", "architecture")
"""One lane per folder below tests/, cheapest first."""

REQUIRED = "REQUIRE_DOCKER"
"""With this variable set, a lane that can't run fails instead of being left out; CI sets it."""


@cache
def docker_is_missing() -> str | None:
    """Why no container can be run here; ``None`` where one can."""
    try:
        with closing(docker.from_env()) as engine:
            engine.ping()
    except DockerException:
        return "no Docker engine answers"
    return None


@cache
def image_is_missing(name: str) -> str | None:
    """Why no container of the image *name* can be run here; ``None`` where one can, and it is pulled."""
    if why := docker_is_missing():
        return why
    try:
        with closing(docker.from_env()) as engine:
            try:
                engine.images.get(name)
            except ImageNotFound:
                engine.images.pull(name)
    except DockerException:
        return f"the image {name} is not here and can't be pulled"
    return None


def missing_commands(*names: str) -> str | None:
    """Which of the commands *names* this machine lacks; ``None`` where it has them all."""
    missing = [name for name in names if shutil.which(name) is None]
    return f"no {' and no '.join(missing)} on this machine" if missing else None


def leave_out(why: str) -> NoReturn:
    """End the test here: *why* this machine can't run its lane."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{why}, and {REQUIRED} is set", pytrace=False)
    pytest.skip(why)


class LaneSummary:
    """A pytest plugin: one line per lane, with a reason where something was left out."""

    def __init__(self) -> None:
        self._outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self._reasons: dict[str, set[str]] = defaultdict(set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        lane = lane_of(_ROOT / report.fspath)
        if report.when == "call" or report.outcome != "passed":
            self._outcomes[lane][report.outcome] += 1
        if report.skipped and isinstance(report.longrepr, tuple):
            self._reasons[lane].add(report.longrepr[2].removeprefix("Skipped: "))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("lanes")
        for lane in LANES:
            outcomes = self._outcomes[lane]
            told = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
            terminalreporter.line(f"{lane:<13} {told or 'not asked for'}")
            for reason in sorted(self._reasons[lane]):
                terminalreporter.line(f"{'':<13} LEFT OUT: {reason}", yellow=True, bold=True)


def lane_of(path: Path) -> str:
    """The lane that the test file *path* belongs to."""
    below_tests = path.relative_to(Path(__file__).parent).parts
    return below_tests[0] if below_tests[0] in LANES else "unit"
