"""Push the images of both architectures to a registry, sign them with cosign, and attest what they are."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.release.agreement import NotReleasable, Project
from infra.release.labels import PREFIX
from infra.release.process import Run

ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}
"""Lambda's name of each architecture, and Docker's."""

_ISSUER = "https://token.actions.githubusercontent.com"
_TABLE = "images.md"
_ECR = re.compile(  # docs.aws.amazon.com/general/latest/gr/ecr.html: IPv4 alone, or dual-stack
    r"\d{12}\.(dkr\.ecr\.[a-z0-9-]+\.amazonaws\.(com|com\.cn|eu)|dkr-ecr\.[a-z0-9-]+\.on\.aws)"
)

# Lambda takes one image, not a list of images: docs.aws.amazon.com/lambda/latest/dg/images-create.html.
_ONE_IMAGE = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)


def log_in(repository: str, run: Run) -> None:
    """Let docker and cosign into the registry of *repository*, with AWS's credentials of the environment.

    Raises:
        NotReleasable: it is not in ECR; any other registry, or Docker Hub, would get the password.
    """
    registry = repository.partition("/")[0]
    if not _ECR.fullmatch(registry):
        raise NotReleasable(f"RELEASE_REPOSITORY must be the address of a repository in ECR: {repository!r}")
    password = run("aws", "ecr", "get-login-password")
    run("docker", "login", "--username", "AWS", "--password-stdin", registry, stdin=password)


def publish(repository: str, project: Project, built: Path, environ: Mapping[str, str], run: Run) -> None:
    """Publish ``image-ARCHITECTURE/image.tar`` and ``sbom-ARCHITECTURE/sbom.cdx.json`` of *built*.

    Each architecture has a tag, for Lambda: ``1.2.3-arm64``. The tag ``1.2.3`` is a list of both, for
    ``docker pull`` and ``FROM``. Nothing is pushed before both images are checked. What the announcement
    needs is put into ``published``, in *built*.

    Raises:
        NotReleasable: an image is not of this commit, version or architecture, or Lambda would refuse it.
    """
    predicate = built / "provenance.json"
    predicate.write_text(json.dumps(provenance(environ), indent=2), "utf-8")
    tags = {architecture: f"{project.version}-{architecture}" for architecture in ARCHITECTURES}
    for architecture, tag in tags.items():
        run("docker", "load", "--quiet", "--input", str(built / f"image-{architecture}" / "image.tar"))
        run("docker", "tag", project.name, f"{repository}:{tag}")
        image = json.loads(run("docker", "image", "inspect", f"{repository}:{tag}"))[0]
        _check_image(image, ARCHITECTURES[architecture], project, environ)

    digests: dict[str, str] = {}
    for tag in tags.values():
        run("docker", "push", "--quiet", f"{repository}:{tag}")
        image = json.loads(run("docker", "image", "inspect", f"{repository}:{tag}"))[0]
        digests[tag] = _pushed_digest(image, repository)
        check_manifest(json.loads(run("docker", "manifest", "inspect", f"{repository}@{digests[tag]}")))
    both = f"{repository}:{project.version}"
    run("docker", "manifest", "create", both, *(f"{repository}@{digest}" for digest in digests.values()))
    digests[project.version] = _digest(run("docker", "manifest", "push", "--purge", both))

    for digest in digests.values():
        _sign(f"{repository}@{digest}", predicate, environ, run)
    for architecture, tag in tags.items():
        _attest("cyclonedx", _sbom(built, architecture), f"{repository}@{digests[tag]}", run)
    _keep_for_announcement(project, built, digests)


def announce(project: Project, published: Path, notes: str, run: Run) -> None:
    """Make the release on GitHub, with *notes*, the digests, and the SBOM of each image as a file."""
    text = published / "notes.md"
    text.write_text(f"{notes}\n\n{(published / _TABLE).read_text('utf-8')}", "utf-8")
    tag = f"v{project.version}"
    title = ("--title", f"{project.name} {project.version}")
    files = sorted(str(path) for path in published.glob("*.cdx.json"))
    run("gh", "release", "create", tag, "--verify-tag", *title, "--notes-file", str(text), *files)


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Check that *manifest* is of one image.

    Raises:
        NotReleasable: it is a list, which BuildKit also writes for one image with its own attestations.
    """
    kind = manifest.get("mediaType", _ONE_IMAGE[-1])  # OCI lets it be left out
    if "manifests" in manifest or kind not in _ONE_IMAGE:
        raise NotReleasable(f"Lambda refuses an image whose manifest is {kind}")


def provenance(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return where the images come from: SLSA's provenance 1.0, in GitHub's build type, by its variables."""
    server = environ["GITHUB_SERVER_URL"]
    repository = f"{server}/{environ['GITHUB_REPOSITORY']}"
    ref = environ["GITHUB_REF"]
    path = environ["GITHUB_WORKFLOW_REF"].removeprefix(f"{environ['GITHUB_REPOSITORY']}/").partition("@")[0]
    run = f"actions/runs/{environ['GITHUB_RUN_ID']}/attempts/{environ['GITHUB_RUN_ATTEMPT']}"
    return {
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": {"workflow": {"ref": ref, "repository": repository, "path": path}},
            "internalParameters": {
                "github": {
                    "event_name": environ["GITHUB_EVENT_NAME"],
                    "repository_id": environ["GITHUB_REPOSITORY_ID"],
                    "repository_owner_id": environ["GITHUB_REPOSITORY_OWNER_ID"],
                    "runner_environment": environ["RUNNER_ENVIRONMENT"],
                }
            },
            "resolvedDependencies": [
                {"uri": f"git+{repository}@{ref}", "digest": {"gitCommit": environ["GITHUB_SHA"]}}
            ],
        },
        "runDetails": {
            "builder": {"id": f"{server}/{environ['GITHUB_WORKFLOW_REF']}"},
            "metadata": {"invocationId": f"{repository}/{run}"},
        },
    }


def _check_image(
    image: Mapping[str, Any], architecture: str, project: Project, environ: Mapping[str, str]
) -> None:
    labels = image["Config"]["Labels"] or {}
    found = (image["Architecture"], labels.get(f"{PREFIX}version"), labels.get(f"{PREFIX}revision"))
    wanted = (architecture, project.version, environ["GITHUB_SHA"])
    if found != wanted:
        raise NotReleasable(f"the image is {found}, and should be {wanted}")


def _keep_for_announcement(project: Project, built: Path, digests: Mapping[str, str]) -> None:
    folder = built / "published"
    folder.mkdir()
    rows = [f"| `{tag}` | `{digest}` |" for tag, digest in digests.items()]  # without the account's number
    (folder / _TABLE).write_text("\n".join(["| image | digest |", "|---|---|", *rows, ""]), "utf-8")
    for architecture in ARCHITECTURES:
        name = f"{project.name}-{project.version}-{architecture}.cdx.json"
        shutil.copy(_sbom(built, architecture), folder / name)


def _sbom(built: Path, architecture: str) -> Path:
    return built / f"sbom-{architecture}" / "sbom.cdx.json"


def _sign(image: str, predicate: Path, environ: Mapping[str, str], run: Run) -> None:
    run("cosign", "sign", "--yes", image)
    _attest("slsaprovenance1", predicate, image, run)
    signer = f"{environ['GITHUB_SERVER_URL']}/{environ['GITHUB_WORKFLOW_REF']}"
    run("cosign", "verify", "--certificate-identity", signer, "--certificate-oidc-issuer", _ISSUER, image)


def _attest(kind: str, predicate: Path, image: str, run: Run) -> None:
    run("cosign", "attest", "--yes", "--type", kind, "--predicate", str(predicate), image)


def _pushed_digest(image: Mapping[str, Any], repository: str) -> str:
    names = [name for name in image["RepoDigests"] if name.startswith(f"{repository}@")]
    return _digest(names[0] if len(names) == 1 else "")


def _digest(text: str) -> str:
    found = re.search(r"sha256:[0-9a-f]{64}", text)
    if found is None:
        raise NotReleasable(f"the registry named no digest, or several: {text!r}")
    return found[0]
