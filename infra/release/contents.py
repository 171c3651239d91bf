"""What is in an image: its bill of materials (SBOM) in CycloneDX, checked against the image, and its scan."""

import json
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from infra.release.agreement import NotReleasable, Project
from infra.release.process import Run

TRIVY = Path("build/trivy")
"""Where ``make build/trivy`` puts it."""

# By the image's own Python: its packages in the task root, and whether it has a database of RPM packages.
_LIST = """
import json, os
from importlib.metadata import distributions
found = distributions(path=[os.environ["LAMBDA_TASK_ROOT"]])
print(json.dumps({
    "python": [[it.metadata["Name"], it.version] for it in found],
    "rpm": os.path.exists("/var/lib/rpm/rpmdb.sqlite"),
}))
"""


def write_sbom(
    image: str, project: Project, path: Path, run: Run, trivy: str | None = None
) -> dict[str, Any]:
    """Write the SBOM of *image*, as *trivy* or else syft finds it there, to *path*, and return it.

    Raises:
        NotReleasable: it does not name all that the image has, or there is neither.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if trivy is not None:
        run(trivy, "image", "--quiet", "--format", "cyclonedx", "--output", str(path), image)
    else:
        run(
            *(find_syft(), "scan", f"docker:{image}", "--quiet"),
            *("--source-name", project.name, "--source-version", project.version),
            *("--output", f"cyclonedx-json={path}"),
        )
    sbom: dict[str, Any] = json.loads(path.read_text("utf-8"))
    container = ("docker", "run", "--rm", "--network", "none", "--entrypoint", "python3", image)
    found = json.loads(run(*container, "-c", _LIST))
    if omitted := omissions(sbom, found["python"], has_rpm=found["rpm"]):
        raise NotReleasable(f"the SBOM lacks {', '.join(omitted)}")
    return sbom


def omissions(sbom: dict[str, Any], python: Iterable[tuple[str, str]], *, has_rpm: bool) -> list[str]:
    """Return what *sbom* does not name: of the *python* packages (name, version), and of RPM packages any."""
    purls = [component.get("purl", "") for component in sbom["components"]]
    named = {_normal(purl.removeprefix("pkg:pypi/")) for purl in purls if purl.startswith("pkg:pypi/")}
    omitted = [f"{name} {version}" for name, version in python if _normal(f"{name}@{version}") not in named]
    if has_rpm and not any(purl.startswith("pkg:rpm/") for purl in purls):
        omitted.append("the operating system's packages")
    return omitted


def find_syft() -> str:
    """Return the path of syft: the one from uv.lock, which is beside this Python, else one on the path.

    Raises:
        NotReleasable: there is none.
    """
    found = shutil.which("syft", path=Path(sys.executable).parent) or shutil.which("syft")
    if found is None:
        raise NotReleasable("there is neither Trivy nor syft: `make sbom` runs syft from uv.lock")
    return found


def find_trivy(root: Path) -> str | None:
    """Return the path of Trivy: the one that ``make build/trivy`` fetched, else one on the path."""
    fetched = root / TRIVY
    return str(fetched) if fetched.exists() else shutil.which("trivy")


def scan_command(trivy: str, *target: str) -> list[str]:
    """Return the command that fails if *target* has a serious vulnerability that an update would remove."""
    what = ["--scanners", "vuln", "--severity", "HIGH,CRITICAL", "--ignore-unfixed", "--exit-code", "1"]
    return [trivy, "image", "--no-progress", *what, *target]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
