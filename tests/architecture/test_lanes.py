"""A lane that can't run says so, and fails where it is required."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def a_lane_without_its_database(**environ: str) -> "subprocess.CompletedProcess[str]":
    """The contract suite's DynamoDB Local part on a machine with neither Docker nor Java."""
    bare = {name: value for name, value in os.environ.items() if name != "REQUIRE_LANES"}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            "dynamodb-local",
            "tests/contract",
        ],
        cwd=ROOT,
        env=bare | {"PATH": "/nonexistent", "DOCKER_HOST": "tcp://127.0.0.1:1"} | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_left_out_is_told_with_its_reason() -> None:
    result = a_lane_without_its_database()

    assert result.returncode == 0, result.stdout
    assert (
        "LEFT OUT: DynamoDB Local can't run: no Docker engine answers, and no java and no npm"
        in result.stdout
    )


def test_where_it_is_required_it_fails() -> None:
    result = a_lane_without_its_database(REQUIRE_LANES="1")

    assert result.returncode == 1, result.stdout
    assert "REQUIRE_LANES is set" in result.stdout
