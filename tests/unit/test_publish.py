"""Pushing, signing and announcing the images, with fakes of docker, cosign and gh."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from infra.release.agreement import NotReleasable, Project
from infra.release.labels import PREFIX
from infra.release.publish import announce, check_manifest, log_in, provenance, publish

PROJECT = Project("switchboard", "1.2.3", "A list.", "Apache-2.0")
REPOSITORY = "registry.example/switchboard"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
GITHUB = {
    "GITHUB_EVENT_NAME": "push",
    "GITHUB_REF": "refs/tags/v1.2.3",
    "GITHUB_REPOSITORY": "an-owner/switchboard",
    "GITHUB_REPOSITORY_ID": "1",
    "GITHUB_REPOSITORY_OWNER_ID": "2",
    "GITHUB_RUN_ATTEMPT": "1",
    "GITHUB_RUN_ID": "77",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_SHA": COMMIT,
    "GITHUB_WORKFLOW_REF": "an-owner/switchboard/.github/workflows/release.yml@refs/tags/v1.2.3",
    "RUNNER_ENVIRONMENT": "github-hosted",
}
IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


class Tools:
    """A fake of docker, cosign and gh: a local engine, a registry, and what was signed and attested."""

    def __init__(self, media_type: str = IMAGE) -> None:
        self.media_type = media_type
        self.local: dict[str, dict[str, Any]] = {}
        self.remote: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.signed: list[str] = []
        self.verified: list[list[str]] = []
        self.attested: list[tuple[str, str, Any]] = []
        self.released: list[str] = []

    def __call__(self, *words: str) -> str:
        return self._docker(words) if words[0] == "docker" else self._sign_or_release(words)

    def _docker(self, words: tuple[str, ...]) -> str:
        match words[1:]:
            case ("load", "--quiet", "--input", archive):
                self.local["switchboard"] = json.loads(Path(archive).read_text())
            case ("tag", source, name):
                self.local[name] = self.local[source]
            case ("image", "inspect", name):
                digests = [f"{REPOSITORY}@{self.remote[name]}"] if name in self.remote else []
                return json.dumps([self.local[name] | {"RepoDigests": ["elsewhere@sha256:1", *digests]}])
            case ("push", "--quiet", name):
                self.remote[name] = digest_of(json.dumps(self.local[name]))
            case ("manifest", "inspect", name):
                assert name.removeprefix(f"{REPOSITORY}@") in self.remote.values()
                return json.dumps({"schemaVersion": 2, "mediaType": self.media_type})
            case ("manifest", "create", name, *parts):
                self.lists[name] = parts
            case ("manifest", "push", "--purge", name):
                self.remote[name] = digest_of(json.dumps(self.lists[name]))
                return f"{self.remote[name]}\n"
            case _:
                pytest.fail(f"no such command: {words}")
        return ""

    def _sign_or_release(self, words: tuple[str, ...]) -> str:
        match words:
            case ("cosign", "sign", "--yes", image):
                assert image.removeprefix(f"{REPOSITORY}@") in self.remote.values()
                self.signed.append(image)
            case ("cosign", "verify", *options, image):
                assert image in self.signed
                self.verified.append(options)
            case ("cosign", "attest", "--yes", "--type", kind, "--predicate", path, image):
                self.attested.append((kind, image, json.loads(Path(path).read_text())))
            case ("gh", "release", "create", *rest):
                self.released = rest
            case _:
                pytest.fail(f"no such command: {words}")
        return ""


def digest_of(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def an_image(
    architecture: str = "amd64", version: str = "1.2.3", revision: str | None = COMMIT
) -> dict[str, Any]:
    labels = {f"{PREFIX}version": version} | ({f"{PREFIX}revision": revision} if revision else {})
    return {"Architecture": architecture, "Config": {"Labels": labels}}


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """What the jobs of the workflow hand over."""
    save(tmp_path, "x86_64", an_image("amd64"))
    save(tmp_path, "arm64", an_image("arm64"))
    return tmp_path


def save(built: Path, architecture: str, image: dict[str, Any]) -> None:
    for kind, file, content in (
        ("image", "image.tar", image),
        ("sbom", "sbom.cdx.json", {"of": architecture}),
    ):
        folder = built / f"{kind}-{architecture}"
        folder.mkdir(exist_ok=True)
        (folder / file).write_text(json.dumps(content))


def test_each_architecture_has_a_tag_and_both_have_one(built: Path) -> None:
    tools = Tools()

    publish(REPOSITORY, PROJECT, built, GITHUB, tools)

    tags = [f"{REPOSITORY}:1.2.3{suffix}" for suffix in ("-x86_64", "-arm64", "")]
    assert list(tools.remote) == tags
    assert tools.lists == {tags[2]: [f"{REPOSITORY}@{tools.remote[tag]}" for tag in tags[:2]]}


def test_all_are_signed_by_digest_and_the_signatures_verified(built: Path) -> None:
    tools = Tools()

    publish(REPOSITORY, PROJECT, built, GITHUB, tools)

    assert tools.signed == [f"{REPOSITORY}@{digest}" for digest in tools.remote.values()]
    assert tools.verified == 3 * [
        [
            "--certificate-identity",
            "https://github.com/an-owner/switchboard/.github/workflows/release.yml@refs/tags/v1.2.3",
            "--certificate-oidc-issuer",
            "https://token.actions.githubusercontent.com",
        ]
    ]


def test_each_image_has_its_own_sbom_and_all_have_the_provenance(built: Path) -> None:
    tools = Tools()

    publish(REPOSITORY, PROJECT, built, GITHUB, tools)

    x86, arm, both = [f"{REPOSITORY}@{digest}" for digest in tools.remote.values()]
    origin = provenance(GITHUB)
    assert sorted(tools.attested, key=str) == sorted(
        [
            ("cyclonedx", x86, {"of": "x86_64"}),
            ("cyclonedx", arm, {"of": "arm64"}),
            *(("slsaprovenance1", image, origin) for image in (x86, arm, both)),
        ],
        key=str,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        an_image("amd64"),
        an_image("arm64", version="1.2.2"),
        an_image("arm64", revision=f"{COMMIT}-dirty"),
        an_image("arm64", revision=None),
        {"Architecture": "arm64", "Config": {"Labels": None}},
    ],
    ids=["architecture", "version", "dirty", "no revision", "no labels"],
)
def test_nothing_is_pushed_if_an_image_is_not_what_it_should_be(built: Path, wrong: dict[str, Any]) -> None:
    save(built, "arm64", wrong)
    tools = Tools()

    with pytest.raises(NotReleasable, match="and should be"):
        publish(REPOSITORY, PROJECT, built, GITHUB, tools)

    assert tools.remote == {}


def test_nothing_is_signed_if_lambda_would_refuse_an_image(built: Path) -> None:
    tools = Tools(media_type=INDEX)

    with pytest.raises(NotReleasable, match="Lambda refuses"):
        publish(REPOSITORY, PROJECT, built, GITHUB, tools)

    assert tools.signed == []


def test_lambda_takes_the_manifest_of_one_image() -> None:
    check_manifest({"schemaVersion": 2, "config": {}, "layers": []})
    check_manifest({"mediaType": "application/vnd.docker.distribution.manifest.v2+json"})

    with pytest.raises(NotReleasable):
        check_manifest({"schemaVersion": 2, "manifests": []})


def test_a_push_without_a_digest_is_refused(built: Path) -> None:
    class Silent(Tools):
        def __call__(self, *words: str) -> str:
            return super().__call__(*words) if words[:3] != ("docker", "manifest", "push") else ""

    with pytest.raises(NotReleasable, match="no digest"):
        publish(REPOSITORY, PROJECT, built, GITHUB, Silent())


def test_the_provenance_names_the_workflow_the_commit_and_the_run() -> None:
    found = provenance(GITHUB)

    definition = found["buildDefinition"]
    assert definition["externalParameters"]["workflow"] == {
        "ref": "refs/tags/v1.2.3",
        "repository": "https://github.com/an-owner/switchboard",
        "path": ".github/workflows/release.yml",
    }
    assert definition["resolvedDependencies"][0]["digest"] == {"gitCommit": COMMIT}
    assert found["runDetails"]["metadata"]["invocationId"].endswith("/switchboard/actions/runs/77/attempts/1")


def test_the_announcement_has_the_notes_the_digests_and_both_sboms(built: Path) -> None:
    tools = Tools()
    publish(REPOSITORY, PROJECT, built, GITHUB, tools)

    announce(PROJECT, built / "published", "- A thing.", tools)

    tag, verify, _, title, _, notes, *files = tools.released
    assert (tag, verify, title) == ("v1.2.3", "--verify-tag", "switchboard 1.2.3")
    text = Path(notes).read_text()
    assert text.startswith("- A thing.\n\n| image | digest |\n")
    assert all(digest in text for digest in tools.remote.values())
    assert "registry.example" not in text
    assert {Path(file).name: json.loads(Path(file).read_text())["of"] for file in files} == {
        "switchboard-1.2.3-x86_64.cdx.json": "x86_64",
        "switchboard-1.2.3-arm64.cdx.json": "arm64",
    }


@pytest.mark.parametrize(
    "registry",
    [
        "111122223333.dkr.ecr.eu-central-1.amazonaws.com",
        "111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn",
        "111122223333.dkr.ecr.eusc-de-east-1.amazonaws.eu",
        "111122223333.dkr-ecr.eu-central-1.on.aws",
    ],
)
def test_docker_gets_the_password_of_ecr_by_its_standard_input(registry: str) -> None:
    calls: list[tuple[tuple[str, ...], str | None]] = []

    def run(*words: str, stdin: str | None = None) -> str:
        calls.append((words, stdin))
        return "a password" if words[0] == "aws" else ""

    log_in(f"{registry}/switchboard", run)

    assert calls[1:] == [
        (("docker", "login", "--username", "AWS", "--password-stdin", registry), "a password")
    ]


@pytest.mark.parametrize(
    "repository",
    [
        "",
        "switchboard",
        "evil.example/111122223333.dkr.ecr.eu-central-1.amazonaws.com/switchboard",
        "111122223333.dkr.ecr.eu-central-1.amazonaws.com.evil.example/switchboard",
        "111122223333.dkr.ecr.evil.example.on.aws/switchboard",
        "111122223333.dkr-ecr.eu-central-1.amazonaws.org/switchboard",
    ],
)
def test_no_other_registry_gets_the_password_of_ecr(repository: str) -> None:
    def run(*words: str, stdin: str | None = None) -> str:
        pytest.fail(f"{words} was run")

    with pytest.raises(NotReleasable, match="RELEASE_REPOSITORY"):
        log_in(repository, run)
