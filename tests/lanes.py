"""The test lanes, what each needs of the machine, and the summary that says what ran."""

import gc
import os
import shutil
import warnings
from collections import Counter, defaultdict
from collections.abc import Generator
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

TAKES = "two to three minutes on two cores, and one or two more where there is Docker"

REQUIRED = "REQUIRE_LANES"
"""With this variable set, a test that can't run fails instead of being left out; CI sets it."""


@cache
def docker_is_missing() -> str | None:
    """Why no container can be run here; ``None`` where one can."""
    # docker-py leaves the socket open on which no engine answered.
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        is_there = _docker_answers()
        gc.collect()
    return None if is_there else "no Docker engine answers"


def _docker_answers() -> bool:
    try:
        with closing(docker.from_env()) as engine:
            return bool(engine.ping())
    except DockerException:
        return False


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
    """A pytest plugin: what will be left out, and at the end one line per lane with what was, and why."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self._reasons: dict[str, set[str]] = defaultdict(set)

    def pytest_report_header(self) -> list[str]:
        left_out = []
        if no_docker := docker_is_missing():
            left_out.append(f"lane image ({no_docker})")
            if no_java := missing_commands("java", "npm"):
                left_out.append(f"all that wants DynamoDB Local ({no_docker}, and {no_java})")
        return [
            f"lanes: {', '.join(LANES)}; all of them take {TAKES}",
            f"left out: {'; '.join(left_out) or 'nothing'}",
        ]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        lane = lane_of(_ROOT / report.fspath)
        if report.when == "call" or report.outcome != "passed":
            self._outcomes[lane][report.outcome] += 1
        if report.skipped and isinstance(report.longrepr, tuple):
            self._reasons[lane].add(report.longrepr[2].removeprefix("Skipped: "))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtestloop(self) -> Generator[None, bool, bool]:
        """Before pytest-cov judges the coverage: what was left out can't have covered anything."""
        ran = yield
        coverage = self._config.pluginmanager.getplugin("_cov")
        if coverage is not None and self._is_anything_left_out():
            coverage.options.cov_fail_under = 0
        return ran

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("lanes")
        for lane in LANES:
            outcomes = self._outcomes[lane]
            told = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
            terminalreporter.line(f"{lane:<13} {told or 'not asked for'}")
            for reason in sorted(self._reasons[lane]):
                terminalreporter.line(f"{'':<13} LEFT OUT: {reason}", yellow=True, bold=True)
        if self._is_anything_left_out():
            terminalreporter.line("The coverage is not judged, since tests were left out.")

    def _is_anything_left_out(self) -> bool:
        return any(self._reasons.values())


def lane_of(path: Path) -> str:
    """The lane that the test file *path* belongs to."""
    below_tests = path.relative_to(Path(__file__).parent).parts
    return below_tests[0] if below_tests[0] in LANES else "unit"
