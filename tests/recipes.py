"""The recipes of infra/docs for tests: the blocks of a page, and its AWS commands as calls of the SDK."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore import xform_name
from botocore.model import Shape, StructureShape
from botocore.session import Session

INFRA = Path(__file__).parent.parent / "infra"


def page(name: str) -> str:
    """Return the text of that page of infra/docs."""
    return (INFRA / "docs" / f"{name}.md").read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """Return the blocks of that language on a page of infra/docs."""
    return re.findall(rf"^```{language}\n(.*?)^```", page(name), re.MULTILINE | re.DOTALL)


def commands(name: str) -> Iterator[list[str]]:
    """Yield the words of each command in a page's shell blocks."""
    for block in blocks(name, "shell"):
        words = shlex.shlex(block.replace("\\\n", " "), posix=True, punctuation_chars="&\n")
        words.whitespace, words.whitespace_split = " \t", True
        command: list[str] = []
        for word in words:
            if set(word) <= set("&\n"):
                yield command
                command = []
            else:
                command.append(word)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the SDK. ``waiter`` waits; else ``operation`` is called."""

    service: str
    operation: str
    arguments: dict[str, Any]
    waiter: str | None = None


def calls(name: str) -> list[Call]:
    """Return the page's ``aws`` commands as calls, but for those that are the command line's own.

    Raises:
        KeyError: the SDK does not know a service, an operation, a waiter or an option.
    """
    of_aws = [words for program, *words in commands(name) if program == "aws"]
    return [_call(service, operation, rest) for service, operation, *rest in of_aws if operation != "deploy"]


def _call(service: str, operation: str, words: list[str]) -> Call:
    session, waiter = Session(), None
    model = session.get_service_model(service)
    if operation == "wait":
        waiter, *words = words
        waiters = session.get_waiter_model(service)
        names = {xform_name(it, "-"): it for it in waiters.waiter_names}
        operation = xform_name(waiters.get_waiter(names[waiter]).operation, "-")
    names = {xform_name(it, "-"): it for it in model.operation_names}
    shape = model.operation_model(names[operation]).input_shape
    assert isinstance(shape, StructureShape)
    members = {f"--{xform_name(member, '-')}": member for member in shape.members}
    return Call(service, operation, dict(_arguments(words, members, shape)), waiter)


def _arguments(words: list[str], members: dict[str, str], shape: StructureShape) -> Iterator[tuple[str, Any]]:
    while words:
        option, *words = words
        values = []
        while words and not words[0].startswith("--"):
            values.append(words.pop(0))
        member = members[option.replace("--no-", "--", 1) if not values else option]
        yield member, _value(values, shape.members[member], negated=option.startswith("--no-"))


def _value(values: list[str], shape: Shape, *, negated: bool) -> Any:
    match shape.type_name:
        case "boolean":
            return not negated
        case "list" if values[0].startswith("["):
            return json.loads(values[0])
        case "list":  # the command line's short form: Name=value,Name=value
            return [dict(pair.split("=", 1) for pair in value.split(",")) for value in values]
        case _ if values[0].startswith("file://"):
            return (INFRA / values[0].removeprefix("file://")).read_text()
        case _:
            [value] = values
            return value
