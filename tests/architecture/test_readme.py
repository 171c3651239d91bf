"""The documents' commands succeed, and their links lead somewhere."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.test_extension import CONTRACT
from tests.docker_image import base_image
from tests.environment import USERS
from tests.lanes import image_is_missing, leave_out

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [
    path
    for pattern in ("README*.md", "CHANGELOG.md", "infra/docs/*.md", ".github/*.md")
    for path in sorted(ROOT.glob(pattern))
]
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)

TICKET = 'make cli ARGS="ticket --client wall-3 --account 123456789012 --region eu-central-1"'
EXTENDED_IMAGE = "make image && docker build --tag switchboard-postgres tests/extension"
RUN_ELSEWHERE = {
    "make test": "it runs this test",
    "make check": "it takes half a minute; .ci/run runs it before the tests",
    "make demo": "tests/stack runs it and checks its output",
    "make demo ARGS=--tokens": "tests/stack runs it, where there is npm",
    TICKET: "it needs a table; the demo runs it",
    "make bench": "it takes minutes and an idle machine: run it by hand",
    "make bench-image": "as make bench",
    "make chaos": "it takes minutes; tests/integration/test_chaos.py is a small run",
    CONTRACT: "test_extension.py runs it, with a PostgreSQL",
    "make hooks": "it writes into the user's repository; test_github.py compares the hooks with make check",
    "make run": "tests/stack starts it and ends it with Ctrl-C",
    "sam build && sam deploy --guided": "it needs an AWS account",
}


def commands() -> list[str]:
    """Return the lines of the documents' shell blocks, each once, without their comments."""
    blocks = [
        text
        for document in DOCUMENTS
        for _, language, text in FENCED.findall(document.read_text())
        if language == "sh"
    ]
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(filter(None, lines)))


def links(document: Path) -> Iterator[str]:
    """Yield the targets of the links and pictures in *document* that are no addresses."""
    prose = re.sub(r"`[^`\n]*`", "", FENCED.sub("", document.read_text()))
    anywhere = r"""\]\(([^)\s]+)\)|(?:href|src|srcset)="([^"]+)"|^\[[\w-]+\]: (\S+)$"""
    for target in re.findall(anywhere, prose, re.MULTILINE):
        if not re.match(r"[a-z]+:", link := "".join(target)):
            yield link


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of *document*."""
    found: Counter[str] = Counter()
    for heading in re.findall(r"^#+ +(.+)$", FENCED.sub("", document.read_text()), re.MULTILINE):
        found[re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")] += 1
    return {f"{name}-{i}" if i else name for name, number in found.items() for i in range(number)}


def leads_somewhere(document: Path, link: str) -> bool:
    """Return whether the *link*'s file is there and has its heading; or its workflow, for a badge."""
    if badge := re.fullmatch(r"\.\./\.\./actions/workflows/([\w.-]+)(/badge\.svg)?", link):
        return document.parent == ROOT and (ROOT / ".github" / "workflows" / badge[1]).is_file()
    path, _, anchor = link.partition("#")
    target = (document.parent / path).resolve() if path else document
    return target.exists() and (not anchor or anchor in anchors(target))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_links_of_a_document_lead_somewhere(document: Path) -> None:
    assert [link for link in links(document) if not leads_somewhere(document, link)] == []


def test_every_command_is_run_here_or_has_a_reason_to_run_elsewhere() -> None:
    assert set(RUN_ELSEWHERE) < set(commands())
    run_here = {"make image", EXTENDED_IMAGE, "make cli ARGS=--help", "make contract STORE=memory"}
    assert run_here <= set(commands()) - set(RUN_ELSEWHERE)
    assert {"make check", "make test"} < set((ROOT / ".ci" / "run").read_text().split("\n"))


@pytest.mark.parametrize("command", [command for command in commands() if command not in RUN_ELSEWHERE])
def test_a_command_succeeds(command: str) -> None:
    if command.startswith("make image") and (why := image_is_missing(base_image())):
        leave_out(why)

    result = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, env=USERS, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stdout + result.stderr
