"""The README's commands succeed."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.architecture.test_extension import CONTRACT
from tests.docker_image import base_image
from tests.environment import USERS
from tests.lanes import image_is_missing, leave_out

ROOT = Path(__file__).parent.parent.parent

TICKET = 'make cli ARGS="ticket --client wall-3 --account 123456789012 --region eu-central-1"'
EXTENDED_IMAGE = "make image && docker build --tag switchboard-postgres tests/extension"
RUN_ELSEWHERE = {
    "make test": "it runs this test",
    "make check": "it takes half a minute; .ci/run runs it before the tests",
    "make demo": "tests/stack runs it and checks its output",
    "make demo ARGS=--tokens": "tests/stack runs it, where there is npm",
    TICKET: "it needs a table; the demo runs it",
    "make bench": "it takes minutes and an idle machine: run it by hand",
    "make bench-image": "as make bench",
    "make chaos": "it takes minutes; tests/integration/test_chaos.py is a small run",
    CONTRACT: "test_extension.py runs it, with a PostgreSQL",
    "make run": "tests/stack starts it and ends it with Ctrl-C",
    "sam build && sam deploy --guided": "it needs an AWS account",
}


def commands() -> list[str]:
    """Return the lines of the README's shell blocks, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]


def test_every_command_is_run_here_or_has_a_reason_to_run_elsewhere() -> None:
    assert set(RUN_ELSEWHERE) < set(commands())
    run_here = {"make image", EXTENDED_IMAGE, "make cli ARGS=--help", "make contract STORE=memory"}
    assert run_here == set(commands()) - set(RUN_ELSEWHERE)
    assert {"make check", "make test"} < set((ROOT / ".ci" / "run").read_text().split("\n"))


@pytest.mark.parametrize("command", [command for command in commands() if command not in RUN_ELSEWHERE])
def test_a_command_succeeds(command: str) -> None:
    if command.startswith("make image") and (why := image_is_missing(base_image())):
        leave_out(why)

    result = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, env=USERS, capture_output=True, text=True, check=False, timeout=300
    )

    assert result.returncode == 0, result.stdout + result.stderr
