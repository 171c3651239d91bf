"""The measured functions, each with an environment such as Lambda sets, without the caller's variables."""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.benchmarks.assemble import BUILD
from tests.benchmarks.stub import ITEM

ACCESS_KEY = "local"  # DynamoDB Local wants letters and digits only
SESSION_TOKEN = "t" * 900  # about as long as Lambda's
REGION = "eu-central-1"

SEED, OURS, OURS_BOTO3, FLOOR, LIMIT = "seed", "ours", "ours-boto3", "floor", "limit"


@dataclass(frozen=True, slots=True)
class Backend:
    """A database; ``bundles`` has the certificate authorities of one with TLS."""

    name: str
    endpoint: str
    table: str
    bundles: "Bundles | None" = None


@dataclass(frozen=True, slots=True)
class Bundles:
    """The certificate authorities that a subject trusts: as many as for an endpoint of AWS.

    The SDK loads all public authorities, ours Amazon's own five. Each file also
    has the local authority, so that the stub is trusted.
    """

    public: Path
    amazon: Path


@dataclass(frozen=True, slots=True)
class Subject:
    """A function: the folder in place of Lambda's task root, its module, its own variables.

    Its $connect events have *headers* and *query* besides.
    """

    name: str
    folder: Path
    module: str
    environ: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)

    def environ_for(self, backend: Backend) -> dict[str, str]:
        """Return the whole environment of the function's process."""
        environ = {
            "PYTHONPATH": f"{self.folder}:{BUILD / 'runtime'}",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(BUILD / "nobody"),  # does not exist, as on Lambda: no file of the caller's is read
            "LANG": "C.UTF-8",
            "LAMBDA_TASK_ROOT": str(self.folder),
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_LAMBDA_LOG_LEVEL": "INFO",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": ACCESS_KEY,
            "AWS_SESSION_TOKEN": SESSION_TOKEN,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_DYNAMODB": backend.endpoint,
            "CONNECTIONS_TABLE": backend.table,
        }
        if backend.bundles:
            own = self.name not in (SEED, OURS_BOTO3, FLOOR)
            environ["AWS_CA_BUNDLE"] = str(backend.bundles.amazon if own else backend.bundles.public)
        if self.name == LIMIT:
            environ |= _signed_requests(backend)
        return {**environ, **self.environ}


SUBJECTS = (
    Subject(SEED, BUILD / "seed", "seed"),
    Subject(OURS, BUILD / "ours", "app.entrypoints.aws_lambda"),
    Subject(OURS_BOTO3, BUILD / "ours", "app.entrypoints.aws_lambda", {"STORE": "dynamodb-boto3"}),
    Subject(FLOOR, BUILD / "floor", "floor"),
    Subject(LIMIT, BUILD / "limit", "limit"),
)


def _signed_requests(backend: Backend) -> dict[str, str]:
    key = {"connectionId": ITEM["connectionId"]}
    put = {"TableName": backend.table, "Item": ITEM}
    delete = {"TableName": backend.table, "Key": key, "ReturnValues": "ALL_OLD"}
    return {
        "LIMIT_CONNECT": _signed("PutItem", put, backend.endpoint),
        "LIMIT_DISCONNECT": _signed("DeleteItem", delete, backend.endpoint),
    }


def _signed(operation: str, parameters: Mapping[str, object], endpoint: str) -> str:
    """Return the bytes of a signed request in Base64."""
    body = json.dumps(parameters, separators=(",", ":")).encode()
    request = AWSRequest(
        "POST",
        f"{endpoint}/",
        headers={
            "Host": urlsplit(endpoint).netloc,
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"DynamoDB_20120810.{operation}",
        },
        data=body,
    )
    SigV4Auth(Credentials(ACCESS_KEY, ACCESS_KEY, SESSION_TOKEN), "dynamodb", REGION).add_auth(request)
    headers = dict(request.headers.items()) | {"Content-Length": str(len(body))}
    lines = ["POST / HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return b64encode("\r\n".join([*lines, "", ""]).encode() + body).decode()
