"""The workflow of a release: who has which permission, and that its steps are ones that tests reach."""

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from infra.release.publish import ARCHITECTURES
from tests.environment import USERS
from tests.lanes import leave_out, missing_commands

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / ".github" / "workflows" / "release.yml").read_text()
JOBS: dict[str, dict[str, Any]] = yaml_parse(TEXT)["jobs"]
PAGE = (ROOT / "infra" / "docs" / "releasing.md").read_text()


def steps(key: str) -> list[str]:
    return [step[key] for job in JOBS.values() for step in job["steps"] if key in step]


def test_only_the_job_that_publishes_has_an_identity_and_only_the_announcement_may_write() -> None:
    assert {name: job["permissions"] for name, job in JOBS.items()} == {
        "check": {"contents": "read"},
        "image": {"contents": "read"},
        "scan": {"contents": "read"},
        "publish": {"contents": "read", "id-token": "write"},
        "announce": {"contents": "write"},
    }
    assert JOBS["publish"]["environment"] == "release"
    assert "secrets." not in TEXT


def test_each_job_waits_for_the_one_before_it() -> None:
    names = list(JOBS)

    assert [job.get("needs") for job in JOBS.values()] == [None, *names[:-1]]


def test_both_architectures_are_built_natively_scanned_and_published() -> None:
    matrix = JOBS["image"]["strategy"]["matrix"]
    runners = {it["architecture"]: it["runner"] for it in matrix["include"]}

    assert runners == {"x86_64": "ubuntu-24.04", "arm64": "ubuntu-24.04-arm"}
    assert JOBS["scan"]["strategy"]["matrix"] == matrix
    assert list(runners) == list(ARCHITECTURES)


def test_the_lane_runs_on_the_image_that_is_published_and_leaves_nothing_out() -> None:
    [lane] = [step for step in JOBS["image"]["steps"] if "tests/image" in step.get("run", "")]

    assert lane["env"] == {"REQUIRE_LANES": 1, "TESTED_IMAGE": "switchboard"}
    assert "BASE_IMAGE" not in TEXT


def test_the_image_is_uploaded_before_anything_but_its_build_has_run() -> None:
    _, build, save, upload, *_ = JOBS["image"]["steps"]

    assert build["run"] == "make image"
    assert save["run"] == "docker save --output build/image.tar switchboard:latest"
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert upload["with"]["path"] == "build/image.tar"


def test_what_is_listed_and_scanned_is_what_was_uploaded_and_no_package_of_an_index_is_there() -> None:
    assert [step["run"] for step in JOBS["scan"]["steps"] if "run" in step] == [
        "docker load --input image.tar",
        "make build/trivy",
        "python3 -m infra.release sbom switchboard",
        "python3 -m infra.release scan image.tar",
    ]


def test_what_is_handed_over_outlasts_a_review() -> None:
    all_steps = [step for job in JOBS.values() for step in job["steps"]]
    uploads = [step["with"] for step in all_steps if "upload-artifact" in step.get("uses", "")]

    assert {upload["name"].partition("-")[0] for upload in uploads} == {"image", "sbom", "published"}
    assert {upload["retention-days"] for upload in uploads} == {30}


def test_every_step_is_one_command_that_exists_needs_no_package_and_has_no_expression() -> None:
    targets = re.findall(r"^([\w/-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    runs = steps("run")

    assert [run for run in runs if "\n" in run or "${{" in run] == []
    assert {run.split()[1] for run in runs if run.startswith("make ")} <= set(targets)
    for command in re.findall(r"infra\.release (\w+)", " ".join(runs)):
        subprocess.run(
            [sys.executable, "-S", "-m", "infra.release", command, "--help"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )


def test_the_workflow_and_its_page_name_the_same_variables() -> None:
    assert set(re.findall(r"vars\.(\w+)", TEXT)) == set(re.findall(r"`(RELEASE_\w+)`", PAGE))
    assert "https://github.com/OWNER/REPOSITORY/.github/workflows/release.yml@refs/tags/v" in PAGE


@pytest.mark.parametrize("tampered", [False, True], ids=["as listed", "tampered with"])
def test_trivy_is_taken_only_with_its_checksum(tmp_path: Path, *, tampered: bool) -> None:
    if why := missing_commands("make", "shasum", "uname"):
        leave_out(why)
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "trivy").write_text("#!/bin/sh\n")
    with tarfile.open(tmp_path / "archive", "w:gz") as archive:
        archive.add(tmp_path / "trivy", "trivy")
    checksum = hashlib.sha256((tmp_path / "archive").read_bytes()).hexdigest()
    platform = "-".join(subprocess.check_output(["uname", flag], text=True).strip() for flag in ("-s", "-m"))
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "trivy.txt").write_text(f"{platform} {checksum} v1/trivy.tar.gz\n")
    curl = tmp_path / "bin" / "curl"
    curl.parent.mkdir()
    more = 'echo more >>"$out"' if tampered else ""
    curl.write_text(
        '#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done\nout=$2\n'
        f'cp "{tmp_path}/archive" "$out"\n{more}\n'
    )
    curl.chmod(0o755)

    path = f"{curl.parent}:{USERS['PATH']}"
    made = subprocess.run(
        ["make", "build/trivy"], cwd=tmp_path, env=USERS | {"PATH": path}, check=False, capture_output=True
    )

    assert (made.returncode == 0) is not tampered
    assert (tmp_path / "build" / "trivy").exists() is not tampered


def test_trivys_checksums_are_of_one_version_and_of_the_runners_platforms() -> None:
    lines = [line.split() for line in (ROOT / "infra" / "trivy.txt").read_text().splitlines()]

    assert all(re.fullmatch("[0-9a-f]{64}", checksum) for _, checksum, _ in lines)
    assert len({path.split("/")[0] for *_, path in lines}) == 1
    assert {"Linux-x86_64", "Linux-aarch64"} <= {platform for platform, *_ in lines}
