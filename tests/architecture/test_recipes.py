"""The recipes for Terraform, CDK and the AWS command line fit the template."""

import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.npm import installed
from tests.recipes import INFRA, blocks, calls, commands, page
from tests.template import Template, source, transformed

CDK = Path(__file__).parent.parent / "cdk"
IMPORTED = INFRA / "recipes" / "import-table.yaml"
REPOSITORY = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/switchboard"
PLAIN = hcl2.SerializationOptions(explicit_blocks=False, with_comments=False, strip_string_quotes=True)

# The properties that name a resource; a log group's name is its own, and other resources refer to it.
NAMES = {"Name", "TableName", "RoleName", "AlarmName", "FilterName", "QueueName", "DashboardName"}


def packaged() -> Template:
    """Return the template as ``sam package`` writes it: each function has its image in ECR."""
    template = source()
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            del resource["Metadata"]
            resource["Properties"]["ImageUri"] = f"{REPOSITORY}:function-0123456789ab-switchboard"
    return template


def needed_capabilities() -> set[str]:
    """Return what CloudFormation wants to be told of the template (its API reference, CreateStack)."""
    roles = [it for it in transformed()["Resources"].values() if it["Type"].startswith("AWS::IAM::")]
    named = any({"RoleName", "ManagedPolicyName"} & set(role["Properties"]) for role in roles)
    return {"CAPABILITY_NAMED_IAM" if named else "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"}


@cache
def terraform() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the recipe's resources by their types and names."""
    [block] = blocks("deploying", "hcl")
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for resource in hcl2.loads(block, serialization_options=PLAIN)["resource"]:
        for kind, named in resource.items():
            found.setdefault(kind.strip('"'), {}).update({name.strip('"'): it for name, it in named.items()})
    return found


def synthesized(app: str, folder: Path) -> Template:
    """Return the template that CDK makes of the stack ``incidents`` of *app*, as by ``cdk synth``."""
    (folder / "node_modules").symlink_to(installed(CDK) / "node_modules")
    (folder / "app.mjs").write_text(app)
    (folder / "packaged.yaml").write_text(json.dumps(packaged()))
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "CDK_OUTDIR": str(folder / "cdk.out")}
    environ["CDK_VALIDATION"] = "false"  # cfn-lint's rules again, in seconds

    result = subprocess.run(
        ["node", "app.mjs"], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
    template: Template = json.loads((folder / "cdk.out" / "incidents.template.json").read_text())
    return template


def with_table_name(node: Any, name: str) -> Any:
    """Return *node* with the parameter TableName replaced."""
    match node:
        case {"Ref": "TableName"}:
            return name
        case dict():
            return {key: with_table_name(child, name) for key, child in node.items()}
        case list():
            return [with_table_name(child, name) for child in node]
        case str():
            return node.replace("${TableName}", name)
        case _:
            return node


def test_the_terraform_recipe_gives_the_template_what_it_has_and_needs() -> None:
    stack = terraform()["aws_cloudformation_stack"]["incidents"]

    assert set(stack["parameters"]) <= set(source()["Parameters"])
    assert set(stack["capabilities"]) == needed_capabilities()
    [output] = re.findall(
        r'outputs\["(\w+)"\]', terraform()["aws_cloudwatch_event_target"]["findings"]["arn"]
    )
    assert output in source()["Outputs"]


def test_the_terraform_recipe_refers_to_its_own_resources() -> None:
    [block] = blocks("deploying", "hcl")
    references = re.findall(r"\b(aws_\w+)\.(\w+)\.", block)

    assert references
    assert all(name in terraform()[kind] for kind, name in references)


def test_terraform_updates_the_stack_of_a_changed_template() -> None:
    template = terraform()["aws_s3_object"]["template"]
    stack = terraform()["aws_cloudformation_stack"]["incidents"]

    assert template["key"] == f'${{filemd5("{template["source"]}")}}.yaml'
    assert "${aws_s3_object.template.key}" in stack["template_url"]


def test_a_packaged_template_is_too_long_for_a_request_and_short_enough_for_a_bucket() -> None:
    assert 51_200 < len(json.dumps(packaged())) < 460_800
    assert {"51,200", "460,800"} <= set(re.findall(r"\d+,\d+", page("deploying")))


@pytest.mark.xdist_group("cdk")
def test_cdk_keeps_everything_of_the_template(tmp_path: Path) -> None:
    [app, _] = blocks("deploying", "js")

    made = synthesized(app, tmp_path)

    expected = with_table_name(packaged(), "IncidentWebSocketConnections")
    queue = made["Resources"].pop("Findings")["Properties"]["Targets"][0]["Arn"]
    assert queue == source()["Outputs"]["MessageQueueArn"]["Value"]
    for section in ("Transform", "Globals", "Conditions", "Resources", "Outputs"):
        assert made[section] == expected[section]
    assert expected["Rules"].items() <= made["Rules"].items()
    assert set(source()["Parameters"]) - set(made["Parameters"]) == {"TableName"}


@pytest.mark.xdist_group("cdk")
def test_cdk_nests_the_template_with_parameters_of_other_resources(tmp_path: Path) -> None:
    [_, app] = blocks("deploying", "js")

    nested = synthesized(app, tmp_path)["Resources"]["Switchboard"]

    assert nested["Type"] == "AWS::CloudFormation::Stack"
    assert set(nested["Properties"]["Parameters"]) <= set(source()["Parameters"])
    [output] = re.findall(r'"Outputs\.(\w+)"', app)
    assert output in source()["Outputs"]


def test_the_page_names_the_version_of_cdk_that_it_was_checked_with() -> None:
    version = json.loads((CDK / "package.json").read_text())["dependencies"]["aws-cdk-lib"]

    assert f"with CDK {version.rpartition('.')[0]}:" in page("deploying")


def test_the_command_line_deploys_what_sam_has_packaged() -> None:
    [package] = [it for it in commands("deploying") if it[:2] == ["sam", "package"]]
    [deploy] = [it for it in commands("deploying") if it[:3] == ["aws", "cloudformation", "deploy"]]

    written = package[package.index("--output-template-file") + 1]
    assert deploy[deploy.index("--template-file") + 1] == written
    assert set(deploy[deploy.index("--capabilities") + 1 :]) == needed_capabilities()


def test_the_sdk_knows_the_commands_by_which_a_table_is_imported_and_deleted() -> None:
    named = {call.waiter or call.operation for call in calls("deleting")}

    assert named == {
        "update-table",
        "delete-table",
        "create-change-set",
        "change-set-create-complete",
        "execute-change-set",
        "stack-import-complete",
    }


def test_the_import_has_the_table_as_in_the_template_and_nothing_that_an_import_may_not_have() -> None:
    imported, template = yaml_parse(IMPORTED.read_text()), source()

    assert imported["Resources"] == {"ConnectionsTable": template["Resources"]["ConnectionsTable"]}
    for name, parameter in imported["Parameters"].items():
        assert parameter.items() <= template["Parameters"][name].items()
    assert imported["Conditions"].items() <= template["Conditions"].items()
    assert set(imported) == {
        "AWSTemplateFormatVersion",
        "Description",
        "Parameters",
        "Conditions",
        "Resources",
    }


def test_the_command_imports_every_resource_of_the_import() -> None:
    [change_set] = [it.arguments for it in calls("deleting") if it.operation == "create-change-set"]
    values = {it["ParameterKey"]: it["ParameterValue"] for it in change_set["Parameters"]}
    [resource] = change_set["ResourcesToImport"]

    assert change_set["ChangeSetType"] == "IMPORT"
    assert change_set["TemplateBody"] == IMPORTED.read_text()
    assert set(values) <= set(yaml_parse(IMPORTED.read_text())["Parameters"])
    assert resource["ResourceType"] == source()["Resources"][resource["LogicalResourceId"]]["Type"]
    assert resource["ResourceIdentifier"] == {"TableName": values["TableName"]}


def test_whatever_outlives_a_stack_under_a_name_of_its_own_can_be_imported() -> None:
    """All else that stays has a generated name, so it is in no new stack's way."""
    staying = {
        name
        for name, resource in source()["Resources"].items()
        if "Retain" in resource.get("DeletionPolicy", "Delete")
        if NAMES & set(resource["Properties"])
        or (resource["Type"] == "AWS::Logs::LogGroup" and "LogGroupName" in resource["Properties"])
    }

    assert staying == set(yaml_parse(IMPORTED.read_text())["Resources"])
