"""The labels that say what an image is, by the names of the OCI image specification (annotations.md)."""

from collections.abc import Mapping
from pathlib import Path

from infra.release.agreement import read_project, revision

PREFIX = "org.opencontainers.image."


def labels(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of an image built from *root*. What is not known is left out.

    ``created`` is left out, too: with it, no two builds of one commit would have the same labels.
    """
    project = read_project(root)
    found = {
        "title": project.name,
        "description": project.description,
        "licenses": project.licence,
        "version": project.version,
    }
    if (commit := revision(root)) is not None:
        found["revision"] = commit
    # Only GitHub knows the repository's address: a git remote may be a fork's, or have a password in it.
    if (server := environ.get("GITHUB_SERVER_URL")) and (repository := environ.get("GITHUB_REPOSITORY")):
        found["source"] = f"{server}/{repository}"
    return {f"{PREFIX}{name}": value for name, value in found.items()}
