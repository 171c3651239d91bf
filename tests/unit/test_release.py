"""Whether a tree is a release, its notes, its labels, what its SBOM lacks, and its rehearsal."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from infra.release.agreement import NotReleasable, notes, pending_notes, problems, read_project, revision
from infra.release.contents import omissions, write_sbom
from infra.release.labels import PREFIX, labels
from infra.release.rehearsal import Step, built_image, rehearse, steps
from tests.lanes import leave_out, missing_commands

ROOT = Path(__file__).parents[2]
PROJECT = """
[project]
name = "switchboard"
version = "1.2.3"
description = "It's a \\"list\\" of $HOME."
license = "Apache-2.0"
"""
ASYNCAPI = """asyncapi: 3.0.0
info:
  version: 1.2.3
channels: {a: {bindings: {ws: {bindingVersion: 0.1.0}}}}
"""
CHANGELOG = """# Changelog

What this is.

## 1.2.3 - 2026-12-01

Read this first.

### Added

- A thing.

## 1.2.2 - 2026-11-01

### Fixed

- Another.
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project that is ready for its tag, in no repository."""
    root = tmp_path / "a tree"
    root.mkdir()
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "CHANGELOG.md").write_text(CHANGELOG)
    (root / "infra").mkdir()
    (root / "infra" / "asyncapi.yaml").write_text(ASYNCAPI)
    return root


@pytest.fixture
def checkout(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, committed on main."""
    if why := missing_commands("git"):
        leave_out(why)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)  # the user's hooks and signatures are not asked for
    git(tree, "init", "--quiet", "--initial-branch=main")
    git(tree, "add", ".")
    commit(tree)
    return tree


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=root, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def commit(root: Path) -> None:
    author = ["-c", "user.name=T", "-c", "user.email=t@example.com"]
    git(root, *author, "commit", "--quiet", "--allow-empty", "--message=a change")


def test_a_tree_whose_tag_version_changelog_and_commit_agree_is_a_release(checkout: Path) -> None:
    assert problems(checkout, tag="v1.2.3", branch="main") == []


def test_a_tag_of_another_version_is_refused(checkout: Path) -> None:
    [problem] = problems(checkout, tag="v1.2.4")

    assert problem == "the tag is v1.2.4, and the version in pyproject.toml is 1.2.3"


@pytest.mark.parametrize("version", ["1.2", "1.2.3rc1", "1.2.3.dev0", "01.2.3"])
def test_a_version_that_is_not_three_numbers_is_refused(checkout: Path, version: str) -> None:
    (checkout / "pyproject.toml").write_text(PROJECT.replace("1.2.3", version))

    assert f"pyproject.toml: the version {version} is not of the form 1.2.3" in problems(checkout)


@pytest.mark.parametrize("version", ["1.2.2", '"1.2.3"'])
def test_another_version_in_the_description_of_the_interfaces_is_refused(
    checkout: Path, version: str
) -> None:
    (checkout / "infra" / "asyncapi.yaml").write_text(ASYNCAPI.replace("1.2.3", version))

    assert f"infra/asyncapi.yaml: the version is {version}, and in pyproject.toml 1.2.3" in problems(checkout)


def test_the_packaged_template_of_the_manual_is_no_change_of_the_tree(checkout: Path) -> None:
    shutil.copy(ROOT / ".gitignore", checkout)
    git(checkout, "add", ".")
    commit(checkout)
    for name in ("packaged.yaml", "packaged.yaml.bak"):
        (checkout / "infra" / name).write_text("Resources: {}\n")

    assert problems(checkout) == []


def test_changes_that_are_still_unreleased_are_refused(checkout: Path) -> None:
    (checkout / "CHANGELOG.md").write_text(CHANGELOG.replace("1.2.3 - 2026-12-01", "Unreleased"))

    found = problems(checkout)

    assert "CHANGELOG.md has no section '## 1.2.3 - YYYY-MM-DD'" in found
    assert "CHANGELOG.md still has changes under 'Unreleased'" in found


def test_an_empty_section_of_unreleased_changes_may_stay(checkout: Path) -> None:
    (checkout / "CHANGELOG.md").write_text(CHANGELOG.replace("## 1.2.3", "## Unreleased\n\n## 1.2.3"))
    git(checkout, "add", ".")
    commit(checkout)

    assert problems(checkout, tag="v1.2.3") == []


@pytest.mark.parametrize("change", ["changed", "staged", "untracked"])
def test_a_tree_with_changes_is_refused(checkout: Path, change: str) -> None:
    path = checkout / ("new" if change == "untracked" else "CHANGELOG.md")
    path.write_text(CHANGELOG + "- More.\n")
    if change == "staged":
        git(checkout, "add", ".")

    assert problems(checkout) == ["the tree has changes that are not committed"]
    assert revision(checkout) == f"{git(checkout, 'rev-parse', 'HEAD')}-dirty"


def test_a_tree_without_a_commit_is_refused(tree: Path) -> None:
    assert problems(tree) == ["there is no git commit to name"]


def test_a_commit_that_has_not_landed_is_refused(checkout: Path) -> None:
    git(checkout, "checkout", "--quiet", "-b", "aside")
    commit(checkout)

    assert problems(checkout, branch="main") == ["the commit is not on main"]
    assert problems(checkout, branch="aside") == []
    assert problems(checkout, branch="origin/nowhere") == ["the commit is not on origin/nowhere"]


def test_the_notes_are_the_section_of_the_version_alone() -> None:
    assert notes(CHANGELOG, "1.2.3") == "Read this first.\n\n### Added\n\n- A thing."
    assert notes(CHANGELOG, "1.2.2") == "### Fixed\n\n- Another."
    assert pending_notes(CHANGELOG) == ""


@pytest.mark.parametrize(
    ("heading", "reason"),
    [
        ("## 1.2.3", "must be"),
        ("## 1.2.3 - soon", "must be"),
        ("## 1.2.3 - 2026-13-01", "must be"),
        ("## 1.2.3 - 20261201", "must be"),
        ("## 1.2.3 - 2026-12-01\n\n## 1.2.2 - 2026-11-30", "is empty"),
        ("## 1.2.30 - 2026-12-01", "has no section"),
    ],
)
def test_a_section_without_a_date_or_a_text_is_refused(heading: str, reason: str) -> None:
    with pytest.raises(NotReleasable, match=reason):
        notes(CHANGELOG.replace("## 1.2.3 - 2026-12-01", heading), "1.2.3")


def test_the_labels_say_what_pyproject_says_and_the_commit(checkout: Path) -> None:
    assert labels(checkout, {}) == {
        f"{PREFIX}title": "switchboard",
        f"{PREFIX}description": 'It\'s a "list" of $HOME.',
        f"{PREFIX}licenses": "Apache-2.0",
        f"{PREFIX}version": "1.2.3",
        f"{PREFIX}revision": git(checkout, "rev-parse", "HEAD"),
    }


def test_the_source_is_labelled_where_github_names_it(tree: Path) -> None:
    github = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "an/owner"}

    assert labels(tree, github)[f"{PREFIX}source"] == "https://github.com/an/owner"
    assert f"{PREFIX}source" not in labels(tree, {"GITHUB_SERVER_URL": "https://github.com"})


def test_without_git_there_is_no_revision(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tree))

    assert revision(tree) is None
    assert f"{PREFIX}revision" not in labels(tree, {})


def test_an_archive_unpacked_in_another_checkout_does_not_get_its_commit(checkout: Path) -> None:
    unpacked = checkout / "vendor"
    unpacked.mkdir()
    (unpacked / "pyproject.toml").write_text(PROJECT)

    assert revision(unpacked) is None


def test_a_new_repository_without_a_commit_has_no_revision(checkout: Path) -> None:
    new = checkout / "new"
    new.mkdir()
    git(new, "init", "--quiet")

    assert revision(new) is None


def test_an_sbom_lacks_what_it_names_in_another_version_or_not_at_all() -> None:
    sbom = {"components": [{"purl": "pkg:pypi/python-dateutil@2.9.0"}, {"name": "a file"}]}

    assert omissions(sbom, [("python_dateutil", "2.9.0")], has_rpm=False) == []
    assert omissions(sbom, [("python.dateutil", "2.9.1"), ("six", "1")], has_rpm=True) == [
        "python.dateutil 2.9.1",
        "six 1",
        "the operating system's packages",
    ]
    assert omissions({"components": [{"purl": "pkg:rpm/amzn/bash@5"}]}, [], has_rpm=True) == []


def test_an_sbom_that_lacks_a_package_of_the_image_is_refused(tree: Path) -> None:
    path = tree / "sbom" / "sbom.json"

    def run(*words: str) -> str:
        if words[0] == "docker":
            return '{"python": [["six", "1.17.0"]], "rpm": false}'
        path.write_text('{"components": []}')
        return ""

    with pytest.raises(NotReleasable, match=r"the SBOM lacks six 1\.17\.0"):
        write_sbom("switchboard", read_project(tree), path, run)


def test_trivy_writes_the_sbom_where_there_is_one(tree: Path) -> None:
    path = tree / "sbom.json"
    written = {"components": [{"purl": "pkg:pypi/six@1.17.0"}]}

    def run(*words: str) -> str:
        if words[0] == "docker":
            return '{"python": [["six", "1.17.0"]], "rpm": false}'
        assert words == (
            *("/opt/trivy", "image", "--quiet", "--format", "cyclonedx", "--output", str(path)),
            "sha256:1",
        )
        path.write_text(json.dumps(written))
        return ""

    assert write_sbom("sha256:1", read_project(tree), path, run, "/opt/trivy") == written


def test_the_image_is_the_one_that_was_built_in_this_tree(tree: Path) -> None:
    with pytest.raises(NotReleasable, match="make image"):
        built_image(tree)

    (tree / "build").mkdir()
    (tree / "build" / "image.id").write_text("sha256:1\n")

    assert built_image(tree) == "sha256:1"


def passes() -> None:
    """A step that works."""


def fails() -> None:
    raise NotReleasable("it is broken")


def test_a_rehearsal_goes_on_after_a_failure_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    succeeded = rehearse(
        [
            Step("image", fails),
            Step("lane", passes, after="image"),
            Step("notes", passes),
            Step("scan", passes, left_out="no scanner: `make scanner`"),
        ]
    )

    assert not succeeded
    _, _, summary = capsys.readouterr().out.partition("=== release, rehearsed\n")
    assert summary.splitlines() == [
        "image  FAILED: it is broken",
        "lane   LEFT OUT: it needs 'image'",
        "notes  passed",
        "scan   LEFT OUT: no scanner: `make scanner`",
    ]


def test_a_command_that_fails_fails_its_step() -> None:
    def run() -> None:
        subprocess.run(["false"], check=True)

    assert not rehearse([Step("image", run)])


def test_a_rehearsal_in_which_nothing_fails_succeeds() -> None:
    assert rehearse([Step("notes", passes), Step("scan", fails, left_out="no scanner")])


def test_without_docker_and_trivy_a_rehearsal_says_so_and_judges_the_rest(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "git").symlink_to(str(shutil.which("git")))
    (checkout / ".git" / "info" / "exclude").write_text("git\n")
    monkeypatch.setenv("PATH", str(checkout))

    assert rehearse(steps(checkout, "v1.2.3"))

    _, _, summary = capsys.readouterr().out.partition("=== release, rehearsed\n")
    assert re.findall("passed|LEFT OUT", summary) == [*["passed"] * 2, *["LEFT OUT"] * 5]
    assert "no Docker engine answers" in summary
    assert "make build/trivy" in summary


def test_a_rehearsal_without_a_tag_says_what_is_missing_and_with_one_fails(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agreement, shown, *_ = steps(tree, None)
    assert rehearse([agreement, shown])
    assert "NOT YET: there is no git commit to name" in capsys.readouterr().out

    assert not rehearse(steps(tree, "v1.2.3")[:1])
    assert "FAILED: there is no git commit to name" in capsys.readouterr().out
