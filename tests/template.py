"""infra/template.yaml for tests: as written, after the SAM transform, and its tables for boto3."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from infra.cost.template import holds

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TimeToLiveSpecificationTypeDef

PATH = Path(__file__).parent.parent / "infra" / "template.yaml"

type Template = dict[str, Any]

_REGION = "eu-central-1"  # required by the transform; the template does not depend on it
_IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/switchboard:latest"

# Keys, indexes and billing. Point-in-time recovery is no parameter of create_table, a test database has no
# encryption, and a test table needs no stream and no deletion protection.
_CREATE_TABLE_PROPERTIES = (
    "TableName",
    "BillingMode",
    "AttributeDefinitions",
    "KeySchema",
    "GlobalSecondaryIndexes",
    "LocalSecondaryIndexes",
)


def source() -> Template:
    """Return the template as written, with short forms such as ``!Ref`` expanded (``{"Ref": ...}``)."""
    return cast("Template", json.loads(_source()))


def transformed(**parameters: str) -> Template:
    """Return the CloudFormation template that the SAM transform makes.

    References to parameters are replaced by *parameters* or the template's
    defaults. The image's URI is like that of ``sam package``.
    """
    return cast("Template", json.loads(_transformed(**parameters)))


def conditions(**parameters: str) -> dict[str, bool]:
    """Return which of the template's conditions hold with *parameters*, the others at their defaults."""
    values = _defaults() | parameters
    return {name: _holds(condition, values) for name, condition in source()["Conditions"].items()}


def failed_rules(**parameters: str) -> list[str]:
    """Return the descriptions of the assertions by which CloudFormation refuses *parameters*."""
    values = _defaults() | parameters
    return [
        assertion["AssertDescription"]
        for rule in source()["Rules"].values()
        if _holds(rule["RuleCondition"], values)
        for assertion in rule["Assertions"]
        if not _holds(assertion["Assert"], values)
    ]


def table_properties(table: str = "ConnectionsTable") -> dict[str, Any]:
    """Return the resource *table* as arguments of boto3's ``create_table``."""
    properties = _table(table)
    return {name: properties[name] for name in _CREATE_TABLE_PROPERTIES if name in properties}


def time_to_live(table: str = "ConnectionsTable") -> "TimeToLiveSpecificationTypeDef | None":
    """Return the TTL of the resource *table* for boto3's ``update_time_to_live``; ``None`` if it has none."""
    return cast("TimeToLiveSpecificationTypeDef | None", _table(table).get("TimeToLiveSpecification"))


def _defaults() -> dict[str, Any]:
    return {name: parameter["Default"] for name, parameter in source()["Parameters"].items()}


def _table(name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", transformed()["Resources"][name]["Properties"])


@cache
def _source() -> str:
    return json.dumps(yaml_parse(PATH.read_text()), default=str)  # the parser makes dates of the versions


@cache
def _transformed(**parameters: str) -> str:
    template = source()
    values = _defaults() | parameters
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
            return {
                key: _with_values(included, values)
                for key, child in node.items()
                for included in _without_excluded([child], values)
            }
        case list():
            return [_with_values(child, values) for child in _without_excluded(node, values)]
        case _:
            return node


def _without_excluded(nodes: list[Any], values: dict[str, Any]) -> Iterator[Any]:
    """Return *nodes* without those whose condition is false."""
    for node in nodes:
        match node:
            case {"Fn::If": [condition, included, {"Ref": "AWS::NoValue"}]}:
                if _holds(source()["Conditions"][condition], values):
                    yield included
            case _:
                yield node


def _holds(condition: Any, values: dict[str, Any]) -> bool:
    return holds(condition, source()["Conditions"], values)
