"""Every dependency of the image has a wheel for both of Lambda's processors, with pinned hashes."""

import subprocess
from pathlib import Path

import pytest

from infra.process import find_uv, uv
from tests.lanes import leave_out

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", ["Makefile", "Dockerfile"])
def test_pip_installs_only_with_hashes(name: str) -> None:
    installs = [line for line in (ROOT / name).read_text().splitlines() if "-m pip install" in line]

    assert installs
    assert all("--require-hashes" in line for line in installs)


@pytest.mark.parametrize("processor", ["x86_64", "aarch64"])
def test_every_dependency_of_the_image_has_a_wheel(processor: str, tmp_path: Path) -> None:
    executable = find_uv()
    if executable is None:
        leave_out("no uv on this machine")
    requirements = tmp_path / "requirements.txt"
    uv("export", "--quiet", "--locked", "--no-dev", "--no-emit-project", "--output-file", str(requirements))

    options = f"--dry-run --require-hashes --only-binary :all: --python-platform {processor}-manylinux_2_28"
    command: list[str | Path] = [executable, "pip", "install", *options.split(), "--target", tmp_path]
    command += ["--requirements", requirements]
    for network in (["--offline"], []):  # offline first: uv's cache may have every wheel
        result = subprocess.run([*command, *network], cwd=ROOT, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            break

    assert result.returncode == 0, result.stderr
