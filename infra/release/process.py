"""Commands that a release runs, and what it says."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

type Run = Callable[..., str]
"""Runs a command, whose words are its arguments, with ``stdin=``, and returns its output."""


def say(text: str) -> None:
    """Print *text* at once, so that it comes before the output of the commands that follow."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def show(*words: str, root: Path, **environ: str) -> None:
    """Run a command in *root*; the user sees its output.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run(words, cwd=root, env=os.environ | environ, check=True)


def output(*words: str, stdin: str | None = None) -> str:
    """Run a command, which reads *stdin*, and return its output.

    Raises:
        subprocess.CalledProcessError: it failed; the user has seen its errors.
    """
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, input=stdin).stdout


def succeeds(*words: str) -> bool:
    """Return whether a command is there and succeeds."""
    try:
        return subprocess.run(words, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
