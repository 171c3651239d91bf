"""What CI tries depends on the change alone, not on the tests that a process ran before."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

PROGRAM = """
import importlib
import sys

from hypothesis import given, settings, strategies

import tests.thoroughness

settings.load_profile(sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)


@given(strategies.lists(strategies.integers(), min_size=50))
def show(numbers):
    print(numbers)


show()
"""


@pytest.mark.parametrize("profile", ["repeatable", "thorough"])
def test_in_ci_the_examples_are_the_same_whatever_was_imported(tmp_path: Path, profile: str) -> None:
    program = tmp_path / "examples.py"
    program.write_text(PROGRAM)

    def tried(*imported: str) -> str:
        return subprocess.run(
            [sys.executable, str(program), profile, *imported],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    alone = tried()

    assert alone.count("[") >= 25
    assert tried("app.domain.model", "app.settings", "tests.builders") == alone
