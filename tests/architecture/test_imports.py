"""The import contracts hold, and each one detects a violation."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def lint_imports(checkout: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            Path(sys.executable).with_name("lint-imports"),
            "--no-logo",
            "--no-cache",
            "--config",
            "pyproject.toml",
        ],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_contract_is_kept(checkout: Path) -> None:
    result = lint_imports(checkout)

    assert result.returncode == 0, result.stdout
    assert "7 kept, 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("app/domain/model.py", "import app.settings", "Imports point inward"),
        ("app/adapters/clock.py", "import app.settings", "Imports point inward"),
        ("app/utils.py", "", "Imports point inward"),  # a module in no layer
        ("app/domain/model.py", "import json", "The domain knows no I/O, no AWS and no injector"),
        ("app/domain/ports.py", "import boto3", "The domain knows no I/O, no AWS and no injector"),
        ("app/settings/__init__.py", "import dependency_injector", "Only the containers know the injector"),
        ("app/entrypoints/routes.py", "import dependency_injector", "Only the containers know the injector"),
        ("app/entrypoints/routes.py", "import app.adapters.memory", "Only the containers pick adapters"),
        ("app/adapters/memory.py", "import app.adapters.clock", "Adapters do not know each other"),
        ("app/containers/handshakes.py", "import app.domain.sweep", "The handshakes reach no operation"),
        ("app/entrypoints/routes.py", "import app.entrypoints.stream", "The handshakes reach no operation"),
        ("app/domain/handshakes.py", "import app.domain.tracking", "The handshakes reach no operation"),
        ("app/adapters/ip.py", "import boto3", "The handshakes reach no operation"),
        ("app/domain/errors.py", "import app.domain.model", "No import goes in a circle"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    checkout: Path, module: str, statement: str, contract: str
) -> None:
    with (checkout / module).open("a") as source:
        source.write(f"\n{statement}\n")

    result = lint_imports(checkout)

    assert result.returncode == 1, result.stdout
    assert f"{contract} BROKEN" in result.stdout
