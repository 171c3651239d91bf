"""What is in .github: pinned actions, few permissions, forms that GitHub takes, hooks of make check."""

import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.environment import USERS
from tests.lanes import LANES, leave_out
from tests.serving import serving

ROOT = Path(__file__).parent.parent.parent
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = [GITHUB / "ISSUE_TEMPLATE" / name for name in ("bug.yml", "feature.yml")]
MAKEFILE = (ROOT / "Makefile").read_text()


def name_of(path: Path) -> str:
    return path.name


def parsed(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml_parse(path.read_text())
    return content


def checks() -> list[str]:
    """Return the targets that make check consists of."""
    [targets] = re.findall(r"^check: (.+?)(?: *##|$)", MAKEFILE, re.MULTILINE)
    return str(targets).split()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name_of)
def test_every_action_is_pinned_by_its_commit_and_names_its_version(workflow: Path) -> None:
    used = re.findall(r"^[ -]*uses:(.*)", workflow.read_text(), re.MULTILINE)

    assert used
    pinned = re.compile(r" [\w.-]+(/[\w.-]+)+@[0-9a-f]{40} # v\d+(\.\d+)*")
    assert [action for action in used if not pinned.fullmatch(action)] == []


def test_one_action_has_one_version() -> None:
    used = re.findall(r"uses: ([\w-]+/[\w-]+)\S*@(.+)", "".join(path.read_text() for path in WORKFLOWS))

    assert len(set(used)) == len(dict(used))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name_of)
def test_a_workflow_may_read_at_most_and_its_jobs_end(workflow: Path) -> None:
    content = parsed(workflow)

    assert content["permissions"] in ({}, {"contents": "read"})
    assert all(1 <= job["timeout-minutes"] <= 120 for job in content["jobs"].values())


def test_ci_runs_what_lands_a_change() -> None:
    [job] = parsed(GITHUB / "workflows" / "ci.yml")["jobs"].values()

    assert job["steps"][-1] == {"run": ".ci/run"}
    assert {"workflows", "audit"} < set(checks())
    assert re.search(r"^workflows:.*\n\t.* zizmor .* \.github$", MAKEFILE, re.MULTILINE)


def test_the_hooks_are_the_targets_of_check() -> None:
    [repository] = parsed(GITHUB / "pre-commit-config.yaml")["repos"]

    assert [hook["id"] for hook in repository["hooks"]] == checks()
    assert [hook["entry"] for hook in repository["hooks"]] == [f"make {target}" for target in checks()]


def test_each_cloudformation_template_is_checked_and_its_hook_runs_when_it_changes() -> None:
    folder = ROOT / "infra"
    templates = {
        str(it.relative_to(ROOT))
        for it in folder.rglob("*.yaml")
        if "\nResources:\n" in it.read_text("utf-8")
    }
    [checked] = re.findall(r"^template:.*\n\t.* cfn-lint (.+)$", MAKEFILE, re.MULTILINE)
    [repository] = parsed(GITHUB / "pre-commit-config.yaml")["repos"]
    [hook] = [it for it in repository["hooks"] if it["id"] == "template"]

    assert set(checked.split()) == {it for it in templates if re.search(hook["files"], it)} == templates


def test_every_lock_is_kept_up_to_date() -> None:
    ecosystems = {"uv.lock": "uv", "package-lock.json": "npm"}
    not_ours = {".venv", "build", "node_modules", ".aws-sam"}
    locks = {
        (ecosystem, "/" + str(lock.parent.relative_to(ROOT)).removeprefix("."))
        for name, ecosystem in ecosystems.items()
        for lock in ROOT.rglob(name)
        if not_ours.isdisjoint(lock.relative_to(ROOT).parts)
    }

    updates = parsed(GITHUB / "dependabot.yml")["updates"]
    folders = {
        (update["package-ecosystem"], folder)
        for update in updates
        for folder in update.get("directories") or [update["directory"]]
    }
    assert locks | {("github-actions", "/")} == folders


@pytest.mark.parametrize("form", FORMS, ids=name_of)
def test_a_form_has_what_github_requires(form: Path) -> None:
    content = parsed(form)

    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert content["name"]
    assert content["description"]
    assert fields
    assert {field["type"] for field in fields} <= {"checkboxes", "dropdown", "input", "textarea", "upload"}
    for unique in ([field["id"] for field in fields], [field["attributes"]["label"] for field in fields]):
        assert len(set(unique)) == len(fields)


def test_the_guide_names_every_lane_and_only_targets_that_exist() -> None:
    guide = (GITHUB / "CONTRIBUTING.md").read_text()

    assert re.findall(r"^\| `(\w+)` \|", guide, re.MULTILINE) == list(LANES)
    named = set(re.findall(r"\bmake ([a-z-]+)", re.sub(r"\n*```", "`", guide)))
    assert named <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert set(checks()) < named


def test_what_a_badge_says_is_true() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    true = {"licence": project["license"], "python": (ROOT / ".python-version").read_text().strip()}

    said = re.findall(r"img\.shields\.io/badge/(\w+)-(\S+?)-\w+\)", (ROOT / "README.md").read_text())
    assert {(name, text.replace("--", "-")) for name, text in said} <= true.items()


VULNERABILITY = {
    "id": "PYSEC-2000-1",
    "summary": "anybody may do anything",
    "modified": "2000-01-01T00:00:00Z",
    "published": "2000-01-01T00:00:00Z",
}


def osv(vulnerable: str | None) -> type[BaseHTTPRequestHandler]:
    """A stand-in for osv.dev, by its API's pages: the package *vulnerable* has a known vulnerability."""

    class Osv(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            known = {"vulns": [{name: VULNERABILITY[name] for name in ("id", "modified")}]}
            self.answer(
                {"results": [known if query["package"]["name"] == vulnerable else {} for query in queries]}
            )

        def do_GET(self) -> None:
            self.answer(VULNERABILITY)

        def answer(self, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    return Osv


class Unavailable(BaseHTTPRequestHandler):
    """A service that is down for now."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))  # or closing resets the connection
        self.send_error(503)

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


type Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def make() -> Make:
    """Make a target; the checkout's own uv is there, since not every machine can install it."""

    def made(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        environ = USERS | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"} | more
        return subprocess.run(
            ["make", *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
        )

    if made("build/uv/bin/uv").returncode != 0:
        leave_out("the checkout's own uv can't be installed here")
    return made


@pytest.mark.xdist_group("audit")
@pytest.mark.parametrize("package", ["boto3", "ministack", "psycopg-pool"])
def test_a_known_vulnerability_in_any_lock_fails_the_audit(package: str, make: Make) -> None:
    with serving(osv(package)) as url:
        result = make("audit", f"ARGS=--service-url={url}")

    assert result.returncode != 0
    assert f"{package} " in result.stdout
    assert "PYSEC-2000-1: anybody may do anything" in result.stdout


@pytest.mark.xdist_group("audit")
def test_locks_without_a_known_vulnerability_pass_the_audit(make: Make) -> None:
    with serving(osv(None)) as url:
        result = make("audit", f"ARGS=--service-url={url}")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "WARNING" not in result.stderr


@pytest.mark.xdist_group("audit")
def test_an_audit_without_an_answer_says_so_and_does_not_fail(make: Make) -> None:
    with serving(Unavailable) as url:
        unavailable = make("audit", f"ARGS=--service-url={url}")
    unreachable = make("audit", "ARGS=--service-url=http://127.0.0.1:1")

    for result, reason in ((unavailable, "503 Service Unavailable"), (unreachable, "Connection refused")):
        assert result.returncode == 0, result.stderr
        assert re.fullmatch(f"WARNING: NOT AUDITED: .*{reason}.*\n", result.stderr)


@pytest.mark.xdist_group("audit")
def test_an_audit_without_an_answer_is_an_annotation_on_github(make: Make) -> None:
    with serving(Unavailable) as url:
        result = make("audit", f"ARGS=--service-url={url}", GITHUB_ACTIONS="true")

    assert result.returncode == 0, result.stderr
    assert re.search("^::warning::.*NOT AUDITED", result.stderr, re.MULTILINE)
