"""The contents of the image, and that no source file is compiled when a function starts."""

import ast
import tomllib
from pathlib import Path

import pytest

from tests.compiled import compiled_handshakes
from tests.docker_image import TASK_ROOT, python_in_image

DISTRIBUTIONS = """
import os
from importlib.metadata import distributions
installed = list(distributions(path=[os.environ["LAMBDA_TASK_ROOT"]]))
print({
    "versions": {it.metadata["Name"]: it.version for it in installed},
    "files": sorted({file.parts[0] for it in installed for file in it.files}),
    "present": sorted(os.listdir(os.environ["LAMBDA_TASK_ROOT"])),
})
"""

BYTE_CODE = """
import importlib.util, os, pathlib
wrong = []
for source in pathlib.Path(os.environ["LAMBDA_TASK_ROOT"]).rglob("*.py"):
    compiled = pathlib.Path(importlib.util.cache_from_source(source))
    unchecked_hash = 0b01  # PEP 552
    header = (
        importlib.util.MAGIC_NUMBER
        + unchecked_hash.to_bytes(4, "little")
        + importlib.util.source_hash(source.read_bytes())
    )
    if not compiled.exists() or compiled.read_bytes()[:16] != header:
        wrong.append(str(source))
print(wrong)
"""

COMPILED_AT_START = """
import os, sys
sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
compiled = []
def note(event, arguments):
    if event == "compile":
        compiled.append(str(arguments[1]))
sys.addaudithook(note)
import app.entrypoints.aws_lambda
print([name for name in compiled if name.startswith(os.environ["LAMBDA_TASK_ROOT"])])
"""


IMPORTED_AT_START = """
import os, sys
sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
before = set(sys.modules)
import app.entrypoints.aws_lambda
after = set(sys.modules)
print([{name.partition(".")[0] for name in names if name[0] != "_"} for names in (after - before, after)])
"""

OPENED_BY_A_HANDSHAKE = """
import os, pathlib, sys
sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
opened = set()
def note(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        opened.add(arguments[0])
sys.addaudithook(note)
from app.entrypoints import aws_lambda
for route in ("$connect", "$disconnect"):
    event = {"requestContext": {"routeKey": route, "connectionId": "c-1"}}
    assert aws_lambda.handler(event, None)["statusCode"] == 503
mapped = {line.split()[-1] for line in pathlib.Path("/proc/self/maps").read_text().splitlines()}
print(sorted(name for name in opened | mapped if name.startswith(os.environ["LAMBDA_TASK_ROOT"])))
"""

# Where nothing is found, a restore goes on all the same.
SNAPSHOT_AND_RESTORE = """
import sys
from app.entrypoints import aws_lambda
from awslambdaric import lambda_runtime_hooks_runner as hooks
hooks.run_before_snapshot()
hooks.run_after_restore()
event = {"requestContext": {"routeKey": "$connect", "connectionId": "c-1"}}
print(aws_lambda.connect(event, None)["statusCode"], {"botocore", "dependency_injector"} & {*sys.modules})
"""

# The top-level modules that a start imports, and why. Modules with an underscore belong to these.
REASONS = {
    "app": "the function",
    **dict.fromkeys(
        ["collections", "contextlib", "copyreg", "enum", "functools", "itertools", "keyword", "operator"],
        "nearly all of them",
    ),
    **dict.fromkeys(["re", "reprlib", "types", "typing"], "nearly all of them"),
    "logging": "our log records",
    **dict.fromkeys(
        ["atexit", "string", "textwrap", "threading", "traceback", "warnings", "weakref"], "logging"
    ),
    "json": "the requests and answers",
    "socket": "the connection to DynamoDB",
    **dict.fromkeys(["array", "errno", "math", "select", "selectors"], "socket"),
    "ssl": "TLS to DynamoDB",
    **dict.fromkeys(["base64", "binascii", "struct"], "ssl"),
    "hashlib": "signatures",
    "hmac": "signatures",
    "zlib": "the checksum of DynamoDB's answers",
    "gc": "off while the function starts",
    "datetime": "times",
}


def test_the_image_has_only_the_app_and_its_locked_dependencies(image: str) -> None:
    found = ast.literal_eval(python_in_image(image, DISTRIBUTIONS))

    assert found["versions"] == locked_for_the_app()
    assert set(found["present"]) - {"app", "__pycache__"} <= set(found["files"])


def test_the_image_has_no_development_tool(image: str) -> None:
    code = (
        "import importlib.util, shutil;"
        "tools = ('uv', 'ruff', 'pytest', 'moto', 'testcontainers', 'docker', 'ministack', 'typer', 'rich');"
        "print([tool for tool in tools if shutil.which(tool) or importlib.util.find_spec(tool)])"
    )

    found = ast.literal_eval(python_in_image(image, code, PYTHONPATH=TASK_ROOT))

    assert found == []


def test_the_image_has_the_functions_entrypoints_and_no_command_line(image: str) -> None:
    functions = [f"app.entrypoints.aws_{name}" for name in ("lambda", "send", "catch_up")]
    code = (
        "import importlib.util;"
        f"parts = ['app.__main__', 'app.cli', *{functions}];"
        "print([part for part in parts if importlib.util.find_spec(part)])"
    )

    found = ast.literal_eval(python_in_image(image, code, PYTHONPATH=TASK_ROOT))

    assert found == functions


def test_every_source_file_has_byte_code_that_is_not_checked_at_import(image: str) -> None:
    wrong = ast.literal_eval(python_in_image(image, BYTE_CODE))

    assert wrong == []


@pytest.mark.parametrize("user", ["0:0", "1000:1000", "65534:65534", "2000000000:2000000000"])
def test_a_start_as_any_user_compiles_nothing(image: str, user: str) -> None:
    compiled = python_in_image(image, COMPILED_AT_START, user=user, CONNECTIONS_TABLE="connections")

    assert ast.literal_eval(compiled) == []


def test_a_start_imports_only_the_modules_that_it_needs(image: str) -> None:
    imported, loaded = ast.literal_eval(
        python_in_image(image, IMPORTED_AT_START, CONNECTIONS_TABLE="connections")
    )

    assert imported - REASONS.keys() == set()
    assert REASONS.keys() - loaded == set()  # Python itself may have imported it before


def test_a_handshake_opens_no_file_but_the_apps_own(image: str) -> None:
    nowhere = {"CONNECTIONS_TABLE": "connections", "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:9"}

    opened = ast.literal_eval(python_in_image(image, OPENED_BY_A_HANDSHAKE, **nowhere))

    assert opened
    assert {name for name in opened if not name.startswith(f"{TASK_ROOT}/app/")} == set()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_the_functions_of_tokens_start(image: str, algorithm: str) -> None:
    code = (
        "from app.entrypoints import aws_keys, aws_lambda;"
        "event = {'requestContext': {'routeKey': '$connect', 'connectionId': 'c-1'}};"
        "print(aws_lambda.handler(event, None)['statusCode'], aws_keys.handler(None, None)['reason'])"
    )
    nowhere = "127.0.0.1:9"  # the discard port

    printed = python_in_image(
        image,
        code,
        PYTHONPATH=TASK_ROOT,
        ADMISSION="token",
        TOKEN_ISSUER=f"https://{nowhere}",
        TOKEN_AUDIENCE="switchboard",
        TOKEN_ALGORITHM=algorithm,
        CONNECTIONS_TABLE="connections",
        KEYS_TABLE="keys",
        AWS_ENDPOINT_URL_DYNAMODB=f"http://{nowhere}",
        STORE_ATTEMPTS="1",
    )

    assert printed == "401 NoConnection\n"


def test_the_functions_that_publish_onto_a_bus_start(image: str) -> None:
    printed = python_in_image(
        image,
        "from app.entrypoints import aws_presence, aws_stream; print('started')",
        PYTHONPATH=TASK_ROOT,
        CONNECTIONS_TABLE="connections",
        PRESENCE_TABLE="presence",
        PRESENCE_BUS="presence",
        AWS_REGION="eu-central-1",
    )

    assert printed == "started\n"


def test_the_handshakes_run_the_compiled_form_of_their_container(image: str) -> None:
    code = (
        "import sys, app.entrypoints.aws_lambda; from app.containers import compiled;"
        "print({'dependency_injector', 'app.containers.handshakes'} & {*sys.modules});"
        "print(open(compiled.__file__).read(), end='')"
    )

    printed = python_in_image(image, code, PYTHONPATH=TASK_ROOT, CONNECTIONS_TABLE="connections")

    assert printed == f"set()\n{compiled_handshakes()}"


def test_the_handshakes_are_restored_by_the_runtime_of_the_image(image: str) -> None:
    nowhere = "http://127.0.0.1:9"

    printed = python_in_image(
        image,
        SNAPSHOT_AND_RESTORE,
        PYTHONPATH=f"{TASK_ROOT}:/var/runtime",
        AWS_LAMBDA_INITIALIZATION_TYPE="snap-start",
        AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{nowhere}/credentials",
        AWS_ENDPOINT_URL_DYNAMODB=nowhere,
        CONNECTIONS_TABLE="connections",
    )

    assert printed == "503 set()\n"


def test_the_image_has_amazons_five_certificate_authorities(image: str) -> None:
    code = (
        "import ssl; from app.adapters.dynamodb.direct.trust import AMAZON_ROOTS;"
        "context = ssl.create_default_context(cafile=AMAZON_ROOTS);"
        "print(sorted(dict(part[0] for part in authority['subject'])['commonName']"
        "             for authority in context.get_ca_certs()))"
    )

    names = ast.literal_eval(python_in_image(image, code, PYTHONPATH=TASK_ROOT))

    assert names == [
        "Amazon Root CA 1",
        "Amazon Root CA 2",
        "Amazon Root CA 3",
        "Amazon Root CA 4",
        "Starfield Services Root Certificate Authority - G2",
    ]


def test_the_image_also_trusts_the_public_certificate_authorities(image: str) -> None:
    code = "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"

    assert int(python_in_image(image, code)) > 100


def locked_for_the_app() -> dict[str, str]:
    """Return the app's dependencies and their versions by uv.lock, without the development groups."""
    lock = tomllib.loads((Path(__file__).parents[2] / "uv.lock").read_text())
    packages = {package["name"]: package for package in lock["package"]}
    versions: dict[str, str] = {}
    pending = ["switchboard"]
    while pending:
        package = packages[pending.pop()]
        versions[package["name"]] = package["version"]
        pending += [
            other["name"] for other in package.get("dependencies", []) if other["name"] not in versions
        ]
    del versions["switchboard"]
    return versions
