"""infra/template.yaml as tests read it: as written, after the SAM transform, and its tables for boto3."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TimeToLiveSpecificationTypeDef

PATH = Path(__file__).parent.parent / "infra" / "template.yaml"

type Template = dict[str, Any]

_REGION = "eu-central-1"  # the transform wants one; nothing in the template depends on which
_IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/switchboard:latest"

# What shapes the rows and the ways to find them. Point-in-time recovery is no property of create_table,
# encryption is none that a test database has, deletion protection would keep a test from clearing its table
# away, and nobody reads a test table's stream.
_SHAPE = (
    "TableName",
    "BillingMode",
    "AttributeDefinitions",
    "KeySchema",
    "GlobalSecondaryIndexes",
    "LocalSecondaryIndexes",
)


def source() -> Template:
    """The template as written, with ``!Ref`` and its like spelled out (``{"Ref": ...}``)."""
    return cast("Template", json.loads(_source()))


def transformed(**parameters: str) -> Template:
    """The CloudFormation that the SAM transform makes of the template.

    References to parameters are replaced by their values: those given, or the
    template's defaults. Images are named as ``sam package`` would name them.
    """
    return cast("Template", json.loads(_transformed(**parameters)))


def table_properties(table: str = "ConnectionsTable") -> dict[str, Any]:
    """The resource *table* as arguments of boto3's ``create_table``."""
    properties = _table(table)
    return {name: properties[name] for name in _SHAPE if name in properties}


def time_to_live(table: str = "ConnectionsTable") -> "TimeToLiveSpecificationTypeDef":
    """The TTL of the resource *table* as boto3's ``update_time_to_live`` takes it."""
    return cast("TimeToLiveSpecificationTypeDef", _table(table)["TimeToLiveSpecification"])


def _table(name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", transformed()["Resources"][name]["Properties"])


@cache
def _source() -> str:
    return json.dumps(yaml_parse(PATH.read_text()), default=str)  # YAML's dates are versions here


@cache
def _transformed(**parameters: str) -> str:
    template = source()
    values = {name: parameter["Default"] for name, parameter in template["Parameters"].items()} | parameters
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["ImageUri"] = _IMAGE
    translator = Translator(
        managed_policy_map={},
        sam_parser=Parser(),
        boto_session=boto3.session.Session(region_name=_REGION),
    )
    return json.dumps(_with_values(translator.translate(template, parameter_values=dict(values)), values))


def _with_values(node: Any, values: dict[str, Any]) -> Any:
    match node:
        case {"Ref": str(name)} if name in values:
            return values[name]
        case dict():
            return {key: _with_values(child, values) for key, child in node.items()}
        case list():
            return [_with_values(child, values) for child in _without_what_is_left_out(node, values)]
        case _:
            return node


def _without_what_is_left_out(nodes: list[Any], values: dict[str, Any]) -> Iterator[Any]:
    """The nodes of a list; one with a condition only where that holds."""
    for node in nodes:
        match node:
            case {"Fn::If": [condition, there, {"Ref": "AWS::NoValue"}]}:
                parameter, value = source()["Conditions"][condition]["Fn::Equals"]
                if values[parameter["Ref"]] == value:
                    yield there
            case _:
                yield node
