"""Whether the tag, the version in pyproject.toml, the section of CHANGELOG.md and the commit agree."""

import re
import subprocess
import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path

_FINAL = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}")  # no pre-releases: semver.org, items 2 and 9
_UNRELEASED = "Unreleased"
_ASYNCAPI = "infra/asyncapi.yaml"


class NotReleasable(Exception):
    """This can't be released; the text says why."""


@dataclass(frozen=True, slots=True)
class Project:
    """What pyproject.toml says of the project."""

    name: str
    version: str
    description: str
    licence: str


def read_project(root: Path) -> Project:
    """Return the project whose pyproject.toml is in *root*."""
    table = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    return Project(table["name"], table["version"], table["description"], table["license"])


def notes(changelog: str, version: str) -> str:
    """Return the text of the section of *version*, whose heading is ``## 0.1.0 - 2026-12-01``.

    Raises:
        NotReleasable: there is no such section, or it is empty, or its date is none.
    """
    for title, text in _sections(changelog).items():
        name, _, day = title.partition(" - ")
        if name != version:
            continue
        if not _is_date(day):
            raise NotReleasable(f"CHANGELOG.md: the heading of {version} must be '## {version} - YYYY-MM-DD'")
        if not text:
            raise NotReleasable(f"CHANGELOG.md: the section of {version} is empty")
        return text
    raise NotReleasable(f"CHANGELOG.md has no section '## {version} - YYYY-MM-DD'")


def pending_notes(changelog: str) -> str:
    """Return what is written under Unreleased; empty if nothing is."""
    return _sections(changelog).get(_UNRELEASED, "")


def problems(root: Path, *, tag: str | None = None, branch: str | None = None) -> list[str]:
    """Return all reasons why the tree in *root* is no release; without *tag*, why it could not be tagged.

    With *branch*, the commit must have landed there: a tag can be put on any commit.
    """
    version = read_project(root).version
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    found = []
    if not _FINAL.fullmatch(version):
        found.append(f"pyproject.toml: the version {version} is not of the form 1.2.3")
    if tag is not None and tag != f"v{version}":
        found.append(f"the tag is {tag}, and the version in pyproject.toml is {version}")
    described = re.findall(r"^  version: (.+)$", (root / _ASYNCAPI).read_text("utf-8"), re.MULTILINE)
    if described != [version]:
        found.append(f"{_ASYNCAPI}: the version is {', '.join(described)}, and in pyproject.toml {version}")
    try:
        notes(changelog, version)
    except NotReleasable as problem:
        found.append(str(problem))
    if pending_notes(changelog):
        found.append(f"CHANGELOG.md still has changes under '{_UNRELEASED}'")
    commit = revision(root)
    if commit is None:
        found.append("there is no git commit to name")
    elif commit.endswith("-dirty"):
        found.append("the tree has changes that are not committed")
    if branch is not None and git(root, "merge-base", "--is-ancestor", "HEAD", branch) is None:
        found.append(f"the commit is not on {branch}")
    return found


def revision(root: Path) -> str | None:
    """Return the commit of the checkout in *root*, with ``-dirty`` if its tree differs from it.

    ``None`` where *root* is no checkout, as an unpacked archive, even one within another checkout.
    """
    top = git(root, "rev-parse", "--show-toplevel")
    commit = git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if not top or not commit or Path(top).resolve() != root.resolve():
        return None
    return f"{commit}-dirty" if git(root, "status", "--porcelain", "--untracked-files=normal") else commit


def git(root: Path, *arguments: str) -> str | None:
    """Run git in *root* and return its output, stripped; ``None`` if it fails or there is no git."""
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _sections(changelog: str) -> dict[str, str]:
    _, *parts = re.split(r"^## (.+)\n", changelog, flags=re.MULTILINE)
    return {title.strip(): text.strip() for title, text in zip(parts[::2], parts[1::2], strict=True)}


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
