"""What a release says of its image: the labels that ``make image`` gives it, and its SBOM."""

import json
import os
import subprocess
import tomllib
from contextlib import closing
from pathlib import Path

import docker
import pytest

from infra.release.agreement import git, read_project, revision
from infra.release.contents import write_sbom
from infra.release.process import output
from tests.docker_image import TASK_ROOT
from tests.environment import USERS
from tests.image.test_contents import locked_for_the_app

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def labels(image: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The labels of the image under test if it is a release's, else of the one that ``make image`` builds."""
    if not os.environ.get("TESTED_IMAGE"):
        path = tmp_path_factory.mktemp("built") / "image.id"  # another run in this checkout has its own
        build = ["make", "image", f"IMAGE_ID={path}"]
        subprocess.run(build, cwd=ROOT, env=USERS, check=True, capture_output=True)
        image = path.read_text()
    with closing(docker.from_env()) as engine:
        found: dict[str, str] = engine.images.get(image).labels
    return found


def test_the_labels_say_which_version_it_is_and_under_which_licence(labels: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    said = [
        labels[f"org.opencontainers.image.{name}"] for name in ("title", "version", "licenses", "description")
    ]

    assert said == [project[name] for name in ("name", "version", "license", "description")]


def test_the_labels_name_the_commit_only_where_there_is_one(labels: dict[str, str]) -> None:
    commit = labels.get("org.opencontainers.image.revision")

    assert commit == revision(ROOT)
    assert commit is None or commit.removesuffix("-dirty") == git(ROOT, "rev-parse", "HEAD")


def test_the_sbom_names_each_locked_package_and_where_it_is_in_the_image(image: str, tmp_path: Path) -> None:
    sbom = write_sbom(image, read_project(ROOT), tmp_path / "sbom.json", output)

    in_task_root = {
        component["purl"].removeprefix("pkg:pypi/").replace("@", " ")
        for component in sbom["components"]
        if component.get("purl", "").startswith("pkg:pypi/")
        and any(it["value"].startswith(f"{TASK_ROOT}/") for it in component["properties"])
    }
    assert in_task_root == {f"{name} {version}" for name, version in locked_for_the_app().items()}
    assert json.loads((tmp_path / "sbom.json").read_text())["metadata"]["component"]["name"] == "switchboard"
