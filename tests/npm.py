"""Packages of npm for tests, downloaded into build/ by the versions and checksums of a lock file."""

import shutil
import subprocess
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.lanes import leave_out, missing_commands, node_is_missing

_BUILD = Path(__file__).parent.parent / "build"


def installed(folder: Path) -> Path:
    """Return where the packages of *folder*'s lock are; leave the test out if they can't be had."""
    if why := node_is_missing() or missing_commands("npm"):
        leave_out(why)
    files = [folder / "package.json", folder / "package-lock.json"]
    whole = _BUILD / f"{folder.name}-{sha256(b''.join(it.read_bytes() for it in files)).hexdigest()[:16]}"
    if whole.is_dir():
        return whole
    _BUILD.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix=f"{folder.name}-", dir=_BUILD) as name:
        part = Path(name) / "part"
        part.mkdir()
        for file in files:
            shutil.copy(file, part)
        options = (
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--no-update-notifier",
            "--loglevel=error",
            "--fetch-retries=5",
        )
        result = subprocess.run(
            ["npm", "ci", *options], cwd=part, capture_output=True, text=True, check=False
        )
        if result.returncode:
            leave_out(f"npm can't fetch the packages of tests/{folder.name}: {result.stderr.strip()}")
        with suppress(OSError):  # another process was first
            part.rename(whole)
    return whole
