"""The test lanes, their requirements, and the summary of the lanes that ran."""

import gc
import os
import shutil
import subprocess
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

LANES = ("unit", "client", "contract", "integration", "image", "stack", "browser", "architecture")
"""The folders below tests/, one per lane, the cheapest first."""

_DURATION = "five to twenty minutes, by the machine, and some more with Docker"

_OLDEST_NODE = (20, 11)  # its test runner replaces the clock
_NODE_WITH_WEBSOCKETS = (22, 0)

REQUIRED = "REQUIRE_LANES"
"""With this variable set, a test that can't run fails instead of being skipped; CI sets it."""


@cache
def docker_is_missing() -> str | None:
    """Return why no container can run here; ``None`` if one can."""
    # docker-py does not close its socket if no engine answers.
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        answers = _docker_answers()
        gc.collect()
    return None if answers else "no Docker engine answers"


def _docker_answers() -> bool:
    try:
        with closing(docker.from_env()) as engine:
            return bool(engine.ping())
    except DockerException:
        return False


@cache
def image_is_missing(name: str) -> str | None:
    """Pull the image *name* if needed; return why no container of it can run here, ``None`` if one can."""
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
    """Return a text that names the missing ones of the commands *names*; ``None`` if there are none."""
    missing = [name for name in names if shutil.which(name) is None]
    return f"no {' and no '.join(missing)} on this machine" if missing else None


@cache
def node_is_missing() -> str | None:
    """Return why the JavaScript client can't run here; ``None`` if it can."""
    if why := missing_commands("node"):
        return why
    version = _node_version()
    if version < _OLDEST_NODE:
        return f"Node.js {'.'.join(map(str, version))} is too old: the client's tests need 20.11"
    return None


def node() -> list[str]:
    """Return the command of Node.js with WebSockets; leave the test out if there is none."""
    if why := node_is_missing():
        leave_out(why)
    return ["node"] if _node_version() >= _NODE_WITH_WEBSOCKETS else ["node", "--experimental-websocket"]


def _node_version() -> tuple[int, ...]:
    version = subprocess.run(["node", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return tuple(int(part) for part in version.strip().removeprefix("v").split(".")[:2])


_BROWSERS = (
    "google-chrome",
    "google-chrome-stable",
    "chromium",
    "chromium-browser",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


def find_browser() -> str | None:
    """Return the path of the user's Chrome or Chromium, on the path or where macOS has it; else ``None``."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


NO_BROWSER = "no Chrome and no Chromium on this machine"


def leave_out(why: str) -> NoReturn:
    """Skip the test because of *why*; fail it if REQUIRE_LANES is set."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{why}, and {REQUIRED} is set", pytrace=False)
    pytest.skip(why)


class LaneSummary:
    """A pytest plugin: names the lanes that can't run, and at the end reports every lane's outcomes."""

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
        if no_node := node_is_missing():
            left_out.append(f"lane client ({no_node})")
        if no_npm := no_node or missing_commands("npm"):
            left_out.append(f"AsyncAPI's parser ({no_npm})")
        if find_browser() is None:
            left_out.append(f"lane browser ({NO_BROWSER})")
        return [
            f"lanes: {', '.join(LANES)}; all of them take {_DURATION}",
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
        """Lower the coverage goal if tests were left out, before pytest-cov checks it."""
        ran = yield
        coverage = self._config.pluginmanager.getplugin("_cov")
        if coverage is not None and self._is_anything_left_out():
            coverage.options.cov_fail_under = 0
        return ran

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("lanes")
        for lane in LANES:
            outcomes = self._outcomes[lane]
            counts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
            terminalreporter.line(f"{lane:<13} {counts or 'not selected'}")
            for reason in sorted(self._reasons[lane]):
                terminalreporter.line(f"{'':<13} LEFT OUT: {reason}", yellow=True, bold=True)
        if self._is_anything_left_out():
            terminalreporter.line("The coverage is not judged, since tests were left out.")

    def _is_anything_left_out(self) -> bool:
        return any(self._reasons.values())


def lane_of(path: Path) -> str:
    """Return the lane of the test file *path*."""
    below_tests = path.relative_to(Path(__file__).parent).parts
    return below_tests[0] if below_tests[0] in LANES else "unit"
