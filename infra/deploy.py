"""infra/template.yaml deployed on an emulator, its functions run from the source instead of the image."""

import io
import json
import shutil
import sys
import zipfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, WaiterError
from samtranslator.yaml_helper import yaml_parse

from infra.process import uv
from infra.stack import LocalStackFailure

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_s3 import S3Client

WEBSOCKETS = "/_aws/execute-api"
"""The path below which MiniStack serves each API, by its id and its stage."""

_HERE = Path(__file__).parent
_ROOT = _HERE.parent
_STACK = "switchboard"
_BUCKET = "switchboard-source"
_CODE = "app.zip"
_TEMPLATE = "template.json"
_GATEWAY_CALLERS = ("SweepFunction", "ChangesFunction", "SendFunction", "CatchUpFunction")

GRACE = timedelta(seconds=2)
"""The sweep's grace on the local stack, instead of 30 s: a demo is short."""

INDEX_LAG = timedelta(seconds=1)
"""IndexLagSeconds on the local stack, instead of 5 s: MiniStack's indexes have no lag."""

type Template = dict[str, Any]


def deploy(  # noqa: PLR0913 - where it is deployed, and how
    cloudformation: "CloudFormationClient",
    s3: "S3Client",
    endpoint: str,
    directory: Path,
    *,
    parameters: Mapping[str, str],
    authorities: Path | None,
) -> dict[str, str]:
    """Create the template's stack on the emulator at *endpoint* and return its outputs.

    The functions' libraries and their log are in *directory*. The function that
    fetches an issuer's keys trusts *authorities*, a file of certificates.

    Raises:
        LocalStackFailure: the stack could not be created.
    """
    s3.create_bucket(Bucket=_BUCKET)
    s3.put_object(Bucket=_BUCKET, Key=_CODE, Body=_source())
    template = _template()
    _run_from_source(template, libraries=_libraries(directory), log=functions_log(directory))
    _use_the_emulator(template, endpoint)
    _watch_single_metrics(template)
    parameters = {"IndexLagSeconds": str(INDEX_LAG // timedelta(seconds=1))} | dict(parameters)
    if authorities is not None:
        keys = template["Resources"]["KeysFunction"]["Properties"]["Environment"]["Variables"]
        keys["SSL_CERT_FILE"] = str(authorities)
    s3.put_object(Bucket=_BUCKET, Key=_TEMPLATE, Body=json.dumps(template))
    try:
        cloudformation.create_stack(
            StackName=_STACK,
            TemplateURL=f"{endpoint}/{_BUCKET}/{_TEMPLATE}",  # it is longer than a TemplateBody may be
            Parameters=[
                {"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()
            ],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=_STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
    except ClientError as error:
        raise LocalStackFailure(f"MiniStack refuses the template: {error}") from error
    except WaiterError as error:
        raise LocalStackFailure(_why_it_failed(cloudformation)) from error
    outputs = cloudformation.describe_stacks(StackName=_STACK)["Stacks"][0]["Outputs"]
    return {output["OutputKey"]: output["OutputValue"] for output in outputs}


def functions_log(directory: Path) -> Path:
    """Return the file of the functions' log records, one JSON object per line."""
    return directory / "functions.log"


def _template() -> Template:
    """Return the template with the short forms of CloudFormation's functions written out."""
    text = (_HERE / "template.yaml").read_text()
    # Through JSON and back: YAML aliases become copies, and versions that look like dates become text.
    template: Template = json.loads(json.dumps(yaml_parse(text), default=str))
    return template


def _run_from_source(template: Template, *, libraries: Path, log: Path) -> None:
    """Turn each image function into a Python function, since an image needs Docker.

    The image's command becomes the handler. The role, the settings and the
    triggers stay the same.
    """
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        if properties.get("PackageType") != "Image":
            continue
        properties["PackageType"] = "Zip"
        properties["Runtime"] = "python3.13"
        properties["Handler"] = properties.pop("ImageConfig")["Command"][0]
        properties["CodeUri"] = {"Bucket": _BUCKET, "Key": _CODE}
        properties.pop("ImageUri", None)
        resource.pop("Metadata", None)  # how to build the image
        variables = properties.setdefault("Environment", {}).setdefault("Variables", {})
        variables |= {"PYTHONPATH": str(libraries), "FUNCTION_LOG": str(log)}


def _use_the_emulator(template: Template, endpoint: str) -> None:
    """Point the functions that call API Gateway at the emulator, and adapt the scheduler's input."""
    resources = template["Resources"]
    for function in _GATEWAY_CALLERS:
        resources[function]["Properties"]["Environment"]["Variables"] |= {
            "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": {
                "Fn::Sub": f"{endpoint}{WEBSOCKETS}/${{WebSocketApi}}/${{StageName}}"
            },
            "SWEEP_GRACE_SECONDS": str(GRACE // timedelta(seconds=1)),
        }
    # MiniStack takes a parameter's value for text, where it needs a number.
    resources["SendMapping"]["Properties"]["ScalingConfig"]["MaximumConcurrency"] = 2
    # MiniStack does not replace <aws.scheduler.scheduled-time>; without it, a sweep uses its own clock.
    resources["SweepSchedule"]["Properties"]["Target"]["Input"] = "{}"


def _watch_single_metrics(template: Template) -> None:
    """Turn each alarm on an expression into one on its first metric: MiniStack has no expressions."""
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        if resource["Type"] != "AWS::CloudWatch::Alarm" or "Metrics" not in properties:
            continue
        first = properties.pop("Metrics")[0]["MetricStat"]
        properties |= first["Metric"] | {"Period": first["Period"], "Statistic": first["Stat"]}


def _source() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((_ROOT / "app").rglob("*.py")):
            file.write(path, path.relative_to(_ROOT))
    return archive.getvalue()


def _libraries(directory: Path) -> Path:
    """Install the image's libraries, from the same lock, and the stand-in for Lambda's logging."""
    libraries = directory / "libraries"
    requirements = directory / "requirements.txt"
    uv("export", "--quiet", "--locked", "--no-dev", "--output-file", str(requirements))
    uv("pip", "install", "--quiet", "--require-hashes", "--python", sys.executable,
       "--requirements", str(requirements), "--target", str(libraries))  # fmt: skip
    shutil.copy(_HERE / "runtime.py", libraries / "sitecustomize.py")
    return libraries


def _why_it_failed(cloudformation: "CloudFormationClient") -> str:
    """Return the resources that failed, the first cause first."""
    events = cloudformation.describe_stack_events(StackName=_STACK)["StackEvents"]
    reasons = [
        f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
        for event in reversed(events)
        if event["ResourceStatus"].endswith("FAILED")
    ]
    return "\n".join(["MiniStack could not create the stack:", *reasons])
