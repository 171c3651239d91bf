"""The commands of a release. They need Python alone, but for those that build, list, scan or push images."""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from infra.release.agreement import NotReleasable, notes, problems, read_project
from infra.release.contents import find_trivy, scan_command
from infra.release.labels import labels
from infra.release.process import output, say, show
from infra.release.publish import announce, log_in, publish
from infra.release.rehearsal import built_image, make_sbom, rehearse, steps

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run the command that the arguments name and return its exit code."""
    arguments = _parser().parse_args()
    try:
        return _run(arguments)
    except (NotReleasable, subprocess.CalledProcessError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1


def _run(arguments: argparse.Namespace) -> int:
    project = read_project(ROOT)
    match arguments.command:
        case "check":
            if found := problems(ROOT, tag=arguments.tag, branch=arguments.branch):
                raise NotReleasable("\n".join(found))
        case "labels":
            pairs = labels(ROOT, os.environ).items()
            say(shlex.join(word for name, value in pairs for word in ("--label", f"{name}={value}")))
        case "notes":
            say(notes((ROOT / "CHANGELOG.md").read_text("utf-8"), project.version))
        case "sbom":
            make_sbom(ROOT, arguments.image or built_image(ROOT))
        case "scan":
            trivy = find_trivy(ROOT) or "trivy"
            show(*scan_command(trivy, "--input", str(arguments.archive)), root=ROOT)
        case "publish":
            log_in(arguments.repository, output)
            publish(arguments.repository, project, arguments.built, os.environ, output)
        case "announce":
            text = notes((ROOT / "CHANGELOG.md").read_text("utf-8"), project.version)
            announce(project, arguments.published, text, output)
        case "rehearse":
            return 0 if rehearse(steps(ROOT, arguments.tag)) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="the tag, the version, CHANGELOG.md and the commit agree")
    check.add_argument("tag")
    check.add_argument("--branch", help="on which the commit must have landed")
    commands.add_parser("labels", help="print the options of docker build that label the image")
    commands.add_parser("notes", help="print the section of CHANGELOG.md")
    sbom = commands.add_parser("sbom", help="list what the image is made of, and compare")
    sbom.add_argument(
        "image", nargs="?", help="the one that make image built here last, unless another is named"
    )
    scan = commands.add_parser("scan", help="fail for serious vulnerabilities that an update would remove")
    scan.add_argument("archive", type=Path, help="what docker save wrote")
    push = commands.add_parser("publish", help="push, sign and attest the images of both architectures")
    push.add_argument("repository", help="111122223333.dkr.ecr.eu-central-1.amazonaws.com/switchboard")
    push.add_argument("built", type=Path, help="the folder of image-x86_64, sbom-x86_64 and those of arm64")
    on_github = commands.add_parser("announce", help="make the release on GitHub")
    on_github.add_argument("published", type=Path, help="the folder that publish left")
    dry_run = commands.add_parser("rehearse", help="all that needs no account: make release-dry-run")
    dry_run.add_argument("--tag", help="fail if the tree could not be tagged so")
    return parser


if __name__ == "__main__":
    sys.exit(main())
