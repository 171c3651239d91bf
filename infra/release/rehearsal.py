"""A release without an account: a step for which something is missing is left out, and says what."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.release.agreement import NotReleasable, notes, pending_notes, problems, read_project
from infra.release.contents import find_trivy, scan_command, write_sbom
from infra.release.process import output, say, show, succeeds

IMAGE_ID = Path("build/image.id")
SBOM = Path("build/release/sbom.cdx.json")

_IMAGE = "image, with its labels"
_PASSED, _FAILED = "passed", "FAILED"
_NO_DOCKER = "no Docker engine answers: install Docker, and start it"
_NO_TRIVY = "no Trivy on this machine: `make build/trivy` fetches it from GitHub, by its checksum"
_NO_ACCOUNT = (
    "it needs the registry's account and the workflow's identity: .github/workflows/release.yml does it"
)


class _NotYet(NotReleasable):
    """What is still being worked on can't be tagged; that fails no rehearsal."""


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the release.

    *run* raises if it fails. *left_out* says why it can't run here, if so. *after* is the title of the step
    whose result it uses, without which it does not run: a former run's image is not what is rehearsed.
    """

    title: str
    run: Callable[[], None]
    left_out: str | None = None
    after: str | None = None


def steps(root: Path, tag: str | None) -> list[Step]:
    """Return the steps of a release of the tree in *root*; with *tag*, it must be ready for that."""
    no_docker = None if succeeds("docker", "version") else _NO_DOCKER
    trivy = find_trivy(root)
    return [
        Step("tag, version and changelog", lambda: _agree(root, tag)),
        Step("notes", lambda: _show_notes(root)),
        Step(_IMAGE, lambda: _make_image(root), no_docker),
        Step("image lane, on this image", lambda: _test_image(root), after=_IMAGE),
        Step("SBOM, compared with the image", lambda: make_sbom(root, built_image(root)), after=_IMAGE),
        Step(
            "scan for vulnerabilities",
            lambda: show(*scan_command(str(trivy), built_image(root)), root=root),
            None if trivy else _NO_TRIVY,
            after=_IMAGE,
        ),
        Step("push, signatures and attestations", lambda: None, _NO_ACCOUNT),
    ]


def rehearse(steps: Iterable[Step]) -> bool:
    """Run *steps*, the later ones even if one fails, and return whether none of those that ran failed."""
    outcomes: dict[str, str] = {}
    for step in steps:
        say(f"\n=== {step.title}")
        outcomes[step.title] = _outcome(step, outcomes)
        say(outcomes[step.title])
    say("\n=== release, rehearsed")
    width = max(map(len, outcomes))
    for title, outcome in outcomes.items():
        say(f"{title:<{width}}  {outcome}")
    return not any(outcome.startswith(_FAILED) for outcome in outcomes.values())


def built_image(root: Path) -> str:
    """Return the id of the image that ``make image`` built here last; its tag may be another checkout's now.

    Raises:
        NotReleasable: there is none.
    """
    try:
        return (root / IMAGE_ID).read_text("utf-8").strip()
    except FileNotFoundError:
        raise NotReleasable("there is no image yet: `make image` builds it") from None


def make_sbom(root: Path, image: str) -> None:
    """Write the SBOM of *image* to ``build/release``, and say how much it names.

    Raises:
        NotReleasable: it does not name all that the image has, or there is neither Trivy nor syft.
    """
    sbom = write_sbom(image, read_project(root), root / SBOM, output, find_trivy(root))
    say(f"{SBOM} names {len(sbom['components'])} components, all of the image's packages among them")


def _outcome(step: Step, former: Mapping[str, str]) -> str:
    if step.left_out is not None:
        return f"LEFT OUT: {step.left_out}"
    if step.after is not None and former[step.after] != _PASSED:
        return f"LEFT OUT: it needs '{step.after}'"
    try:
        step.run()
    except _NotYet as problem:
        return f"NOT YET: {problem}"
    except (NotReleasable, subprocess.CalledProcessError) as problem:
        return f"{_FAILED}: {problem}"
    return _PASSED


def _agree(root: Path, tag: str | None) -> None:
    found = problems(root, tag=tag)
    if found:
        raise (NotReleasable if tag is not None else _NotYet)("; ".join(found))


def _show_notes(root: Path) -> None:
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    try:
        text = notes(changelog, read_project(root).version)
    except NotReleasable:
        text = pending_notes(changelog)
        say("Still under 'Unreleased':")
    if not text:
        raise NotReleasable("CHANGELOG.md has nothing to say of this release")
    say(text)


def _make_image(root: Path) -> None:
    show("make", "--no-print-directory", "image", root=root)


def _test_image(root: Path) -> None:
    tests = (sys.executable, "-m", "pytest", "--quiet", "tests/image")
    show(*tests, root=root, TESTED_IMAGE=built_image(root), REQUIRE_LANES="1")
