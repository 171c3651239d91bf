"""infra/asyncapi.yaml for tests: its parts by their pointers, its schemas, and AsyncAPI's own parser."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from referencing import Registry
from referencing.jsonschema import DRAFT7
from samtranslator.yaml_helper import yaml_parse

from tests.npm import installed

ROOT = Path(__file__).parent.parent
PATH = ROOT / "infra" / "asyncapi.yaml"
PARSER = Path(__file__).parent / "parser"

_URI = "urn:switchboard:asyncapi"

type Json = Any


def document() -> dict[str, Json]:
    """Return the document, a new copy each time."""
    whole: dict[str, Json] = json.loads(_text())
    return whole


def part(pointer: str) -> Json:
    """Return the part of the document to which *pointer* leads, such as ``components/messages``.

    References on the way are followed.
    """
    node: Json = document()
    for step in pointer.split("/"):
        node = node[step]
        if isinstance(node, dict) and "$ref" in node:
            node = part(node["$ref"].removeprefix("#/"))
    return node


def faults(pointer: str, value: Json) -> list[str]:
    """Return what the schema to which *pointer* leads finds wrong with *value*."""
    return [error.message for error in _validator(pointer).iter_errors(value)]


def examples(message: str) -> dict[str, Json]:
    """Return the payloads of a message's examples by their names."""
    return {it["name"]: it["payload"] for it in part(f"components/messages/{message}/examples")}


def parsed(*texts: str) -> list[dict[str, Json]]:
    """Return what AsyncAPI's parser finds in each of *texts*; leave the test out if it can't run here.

    Severity 0 is an error, 1 a warning.
    """
    result = subprocess.run(
        ["node", "--input-type=module", "--eval", (PARSER / "validate.mjs").read_text()],
        cwd=installed(PARSER),  # its import is looked for there, since the script is a text
        input=json.dumps(texts),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: list[dict[str, Json]] = json.loads(result.stdout)
    return found


@cache
def _text() -> str:
    return json.dumps(yaml_parse(PATH.read_text()))


@cache
def _validator(pointer: str) -> Draft7Validator:
    registry: Registry[Json] = Registry().with_resource(_URI, DRAFT7.create_resource(document()))
    return Draft7Validator({"$ref": f"{_URI}#/{pointer}"}, registry=registry)
