"""Switchboard on this machine: its own template on MiniStack, with neither Docker nor an AWS account.

python -m infra.local demo    clients come and go before your eyes, and every step is checked
python -m infra.local run     the stack stays up, with a live table of who is connected, until Ctrl-C
"""

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from infra.demo import demo
from infra.deploy import GRACE, WEBSOCKETS, deploy, functions_log
from infra.environment import forget_aws_settings
from infra.gateway import LocalGateway
from infra.process import ministack
from infra.screen import Screen
from infra.stack import LocalStack, LocalStackFailure, Record
from infra.watch import watch

UNLIKE_AWS = (
    "The functions run from app/, not from the image. Roles, settings and routes are the template's.",
    "A handshake that the function refuses is answered 403, whatever the function's status.",
    "$disconnect is told close code 1006, however a client leaves; none is ever lost.",
    "The functions' log records go to a file; no access log, metric or alarm comes of a WebSocket.",
    "No row expires by its ttl.",
    "A change that the changes function reports as failed is not delivered again.",
    "A batch on which that function raises comes again whole, never halved, and no attempts are counted.",
    "The schedule sends no time of its own: a sweep knows its turn by its clock.",
    "The alarm on questions without an answer watches their number, not their share.",
    f"Who came less than {GRACE.total_seconds():.0f} s ago is not swept, instead of 30 s: a demo is short.",
)
"""Where MiniStack falls short. It takes every resource of the template, so none is left out."""

_ROOT_USER = "test"  # MiniStack's, by name and by secret
_REGION = "us-east-1"


@contextmanager
def local_stack(say: Callable[[str], None] = lambda _: None) -> Iterator[LocalStack]:
    """The whole stack while the block lasts; *say* is told what it is doing meanwhile.

    All that it writes is in one temporary folder, which goes with it; after an
    error the logs are kept in another.

    Raises:
        LocalStackFailure: it could not be had.
    """
    with TemporaryDirectory(prefix="switchboard-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        try:
            say("Starting MiniStack, an emulator of AWS, on 127.0.0.1 (the first time, downloading it)")
            with ministack(directory) as endpoint, ExitStack() as clients:
                say("Deploying infra/template.yaml on it; its functions may do what their roles allow")
                yield _deployed(endpoint, directory, clients)
        except Exception as error:
            error.add_note(_what_the_logs_say(directory))
            raise


def _deployed(endpoint: str, directory: Path, clients: ExitStack) -> LocalStack:
    session = boto3.session.Session(_ROOT_USER, _ROOT_USER, region_name=_REGION)
    where: dict[str, Any] = {"endpoint_url": endpoint, "config": Config(proxies={})}
    cloudformation = clients.enter_context(closing(session.client("cloudformation", **where)))
    s3 = clients.enter_context(closing(session.client("s3", **where)))
    functions = clients.enter_context(closing(session.client("lambda", **where)))
    dynamodb = clients.enter_context(closing(session.client("dynamodb", **where)))

    outputs = deploy(cloudformation, s3, endpoint, directory)

    # AWS's wss://API.execute-api.REGION.amazonaws.com/STAGE, where MiniStack serves it
    address = urlsplit(outputs["WebSocketUrl"])
    api = (address.hostname or "").partition(".")[0]
    stage = f"{urlsplit(endpoint).netloc}{WEBSOCKETS}/{api}{address.path}"
    management = session.client(
        "apigatewaymanagementapi", endpoint_url=f"http://{stage}", config=where["config"]
    )
    apis = session.client("apigatewayv2", **where)

    def ask(function: str, event: Record) -> Record:
        name = outputs[f"{function}FunctionName"]
        answer = functions.invoke(FunctionName=name, Payload=json.dumps(event))
        response: Record = json.load(answer["Payload"])
        return response

    return LocalStack(
        websocket_url=f"ws://{stage}",
        table=outputs["TableName"],
        dynamodb=dynamodb,
        gateway=LocalGateway(
            api, clients.enter_context(closing(apis)), clients.enter_context(closing(management))
        ),
        ask=ask,
        log=functions_log(directory),
        environment={
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": f"http://{stage}",
            "AWS_REGION": _REGION,
            "AWS_ACCESS_KEY_ID": _ROOT_USER,
            "AWS_SECRET_ACCESS_KEY": _ROOT_USER,
            "CONNECTIONS_TABLE": outputs["TableName"],
        },
    )


def _what_the_logs_say(directory: Path) -> str:
    """The last lines of the logs in *directory*, and where they are kept from now on."""
    kept = Path(mkdtemp(prefix="switchboard-logs-"))
    said = [f"The logs are in {kept}"]
    for log in sorted(directory.glob("*.log")):
        shutil.copy(log, kept)
        said += [f"--- the end of {log.name}", *log.read_text(errors="replace").splitlines()[-5:]]
    return "\n".join(said)


def main() -> None:
    """Run the command that the arguments name; its exit status is the process's."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.local",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["demo", "run"])
    command = parser.parse_args().command
    forget_aws_settings(os.environ)
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGHUP: the terminal was closed
        signal.signal(ending, signal.default_int_handler)
    screen = Screen()
    try:
        with local_stack(screen.say) as stack:
            screen.say(f"It is up: {stack.websocket_url}")
            screen.add("Unlike on AWS:", *(f"- {difference}" for difference in UNLIKE_AWS))
            {"demo": demo, "run": watch}[command](stack, screen)
    except LocalStackFailure as failure:
        sys.exit("\n".join([str(failure), *failure.__notes__]))
    except KeyboardInterrupt:
        sys.exit(0 if command == "run" else 130)  # a demo cut short has shown nothing: as a shell has it


if __name__ == "__main__":
    main()
