"""A lane that can't run is reported at the start and at the end, and fails if it is required."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

NO_DATABASE = "DynamoDB Local can't run: no Docker engine answers, and no java and no npm on this machine"


def run_tests(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run pytest with coverage, as on a machine with neither Docker nor Java."""
    inherited = {name: value for name, value in os.environ.items() if name != "REQUIRE_LANES"}
    without_tools = {"PATH": "/nonexistent", "DOCKER_HOST": "unix:///nonexistent"}
    options = ["-p", "no:cacheprovider", "--cov", "--cov-report="]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments],
        cwd=ROOT,
        env=inherited | without_tools | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_lane_that_cannot_run_is_reported_first_and_last_and_does_not_fail(tmp_path: Path) -> None:
    result = run_tests("tests/integration/test_costs.py", COVERAGE_FILE=str(tmp_path / "coverage"))

    assert result.returncode == 0, result.stdout
    header, _, summary = result.stdout.partition(" lanes ")
    assert "left out: lane image (no Docker engine answers); all that wants DynamoDB Local" in header
    assert "lane browser (no Chrome and no Chromium on this machine)" in header
    assert f"LEFT OUT: {NO_DATABASE}" in summary
    assert "The coverage is not judged" in summary


def test_coverage_is_checked_if_every_lane_can_run(tmp_path: Path) -> None:
    result = run_tests("tests/contract/test_clock.py", COVERAGE_FILE=str(tmp_path / "coverage"))

    assert result.returncode == 1, result.stdout
    assert "Required test coverage of 100.0% not reached" in result.stdout


def test_a_required_lane_that_cannot_run_fails(tmp_path: Path) -> None:
    result = run_tests(
        "tests/integration/test_costs.py",
        COVERAGE_FILE=str(tmp_path / "coverage"),
        REQUIRE_LANES="1",
    )

    assert result.returncode == 1, result.stdout
    assert f"{NO_DATABASE}, and REQUIRE_LANES is set" in result.stdout
