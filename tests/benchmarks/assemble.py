"""The folders under build/bench that take the place of the functions' task roots.

``ours`` is made by the Dockerfile's steps, for this machine's platform: keep
the two in step (``make bench-image`` measures the image itself). ``seed`` is
boto3 with its dependencies, whole, with byte code as pip compiles it. Both
take their versions from uv.lock.
"""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import certifi

from infra.process import find_uv
from tests.compiled import compiled_handshakes

CHECKOUT = Path(__file__).parents[2]
BUILD = CHECKOUT / "build" / "bench"
PYTHON = Path(sys.executable).resolve()
"""The interpreter itself: a virtual environment takes longer to start than Lambda's Python."""

_HERE = Path(__file__).parent
_AMAZON_ROOT = re.compile(
    r"# Label: \"(?:Amazon Root CA [1-4]|Starfield Services Root Certificate Authority - G2)\"\n"
    r".*?-----END CERTIFICATE-----\n",
    re.DOTALL,
)
_RUNTIME = ("awslambdaric", "simplejson", "snapshot-restore-py")


def assemble() -> None:
    """Build all folders from scratch."""
    shutil.rmtree(BUILD, ignore_errors=True)
    _ours(BUILD / "ours")
    _seed(BUILD / "seed")
    for name in ("floor", "limit"):
        _function(name, BUILD / name)
        _compile(BUILD / name)
    _runtime(BUILD / "runtime")


def size(folder: Path) -> int:
    """Return the total size in bytes of the files below *folder*."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _ours(folder: Path) -> None:
    _install(folder)
    data = folder / "botocore" / "data"
    for service in data.iterdir():
        if service.is_dir() and service.name not in {"dynamodb", "sqs"}:
            shutil.rmtree(service)
    for unread in ("data", "examples"):
        shutil.rmtree(folder / "boto3" / unread)
    for source in (folder / "dependency_injector").glob("*.c"):
        source.unlink()
    shutil.copytree(CHECKOUT / "app", folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "app" / "adapters" / "dynamodb" / "direct" / "amazon_roots.pem").write_text(amazon_roots())
    (folder / "app" / "containers" / "compiled.py").write_text(compiled_handshakes())
    _compile(folder, "--invalidation-mode", "unchecked-hash")


def amazon_roots() -> str:
    """Return Amazon's own five certificate authorities, as the image has them."""
    roots = _AMAZON_ROOT.findall(Path(certifi.where()).read_text())
    assert len(roots) == 5, f"{len(roots)} roots"
    return "".join(roots)


def _seed(folder: Path) -> None:
    _install(folder, "--prune", "cryptography", "--prune", "dependency-injector", "--prune", "pycurl")
    _function("seed", folder)
    _compile(folder)


def _runtime(folder: Path) -> None:
    """Lambda's runtime client, as in /var/runtime, and what we run in place of its main program."""
    for name in _RUNTIME:
        for file in distribution(name).files or []:
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), target)
    for name in ("driver.py", "bare.py", "invoked.py"):
        shutil.copy(_HERE / name, folder)
    _compile(folder)


def _function(name: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_HERE / "functions" / f"{name}.py", folder)


def _install(folder: Path, *what: str) -> None:
    folder.mkdir(parents=True)
    requirements = folder.with_suffix(".txt")
    _uv("export", "--frozen", "--no-dev", "--no-emit-project", *what, "--output-file", requirements)
    _uv(
        *("pip", "install", "--python", PYTHON, "--target", folder, "--link-mode", "copy"),
        *("--require-hashes", "--only-binary", ":all:", "--requirements", requirements),
    )
    shutil.rmtree(folder / "bin", ignore_errors=True)
    (folder / ".lock").unlink(missing_ok=True)


def _compile(folder: Path, *options: str) -> None:
    subprocess.run([PYTHON, "-m", "compileall", "-q", "-j", "0", *options, folder], check=True)


def _uv(*arguments: str | Path) -> None:
    subprocess.run(
        [find_uv() or "uv", "--quiet", *arguments],
        cwd=CHECKOUT,
        env={name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
