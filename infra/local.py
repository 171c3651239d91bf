"""Switchboard on this machine: its own template on MiniStack, without Docker and without an AWS account.

python -m infra.local demo             clients connect and disconnect, and the table is checked at each step
python -m infra.local demo --tokens    only those who show a token come in; each refusal is checked
python -m infra.local run              the stack stays up, with a page and a live table, until Ctrl-C
"""

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from app.cli import main as command_line
from infra.demo import demo
from infra.deploy import GRACE, INDEX_LAG, WEBSOCKETS, deploy, functions_log
from infra.environment import clear_aws_settings
from infra.gateway import LocalGateway
from infra.issuer import token_issuer
from infra.page import serve_page
from infra.process import IDLE_LIMIT, ministack
from infra.screen import Screen
from infra.stack import LocalStack, LocalStackFailure, Record
from infra.token_demo import token_demo, token_parameters

UNLIKE_AWS = (
    "The functions run from app/, not from the image. Roles, settings and routes are the template's.",
    "$disconnect has close code 1006 unless the connection was idle, and no event is lost.",
    "The functions' log records go to a file. WebSockets have no access log, metrics or alarms.",
    "No item expires by its ttl.",
    "A PresenceBus that does not exist is not refused.",
    "A stream record that the function returns as failed is not delivered again.",
    "A batch on which that function raises is repeated whole, never halved, without a limit.",
    "The schedule sends no time: a sweep takes its turn from its own clock.",
    "The alarms on a share, of probes or of recipients, count instead.",
    "No message to a client is throttled or too large. SendConcurrency is 2.",
    f"The sweep's grace is {GRACE.total_seconds():.0f} s instead of 30 s: a demo is short.",
    f"An index shows a new connection at once. IndexLagSeconds is {INDEX_LAG.total_seconds():.0f}, not 5.",
)
"""How MiniStack differs. It takes every resource of the template, so none is left out."""

SEND = (
    "send --account 123456789012 --region eu-central-1 --type incident.opened "
    """--data "{\\"title\\":\\"Disk-full\\"}" --wait"""
)
"""A command that sends to the client of the lines before it."""

_ROOT_USER = "test"  # MiniStack's access key id and secret key
_REGION = "us-east-1"


@contextmanager
def local_stack(
    say: Callable[[str], None] = lambda _: None,
    *,
    parameters: Mapping[str, str] | None = None,
    authorities: Path | None = None,
    idle_limit: timedelta = IDLE_LIMIT,
) -> Iterator[LocalStack]:
    """Run the whole stack during a block; *say* gets each step of the start.

    *parameters* are those of the template that have not their defaults. With tokens,
    *authorities* is a file of certificates, of which the issuer's has to be. A client
    that is idle for *idle_limit* is disconnected.

    Its files are in a temporary folder, which is deleted at the end. After an
    error its logs are kept.

    Raises:
        LocalStackFailure: it could not be started.
    """
    with TemporaryDirectory(prefix="switchboard-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        try:
            say("Starting MiniStack, an emulator of AWS, on 127.0.0.1 (the first time, downloading it)")
            with ministack(directory, idle_limit) as endpoint, ExitStack() as clients:
                say("Deploying infra/template.yaml on it; its functions may do what their roles allow")
                yield _deployed(endpoint, directory, clients, parameters or {}, authorities)
        except Exception as error:
            error.add_note(_what_the_logs_say(directory))
            raise


def _deployed(
    endpoint: str,
    directory: Path,
    clients: ExitStack,
    parameters: Mapping[str, str],
    authorities: Path | None,
) -> LocalStack:
    session = boto3.session.Session(_ROOT_USER, _ROOT_USER, region_name=_REGION)
    where: dict[str, Any] = {"endpoint_url": endpoint, "config": Config(proxies={})}
    cloudformation = clients.enter_context(closing(session.client("cloudformation", **where)))
    s3 = clients.enter_context(closing(session.client("s3", **where)))
    functions = clients.enter_context(closing(session.client("lambda", **where)))
    dynamodb = clients.enter_context(closing(session.client("dynamodb", **where)))
    queue = clients.enter_context(closing(session.client("sqs", **where)))

    outputs = deploy(cloudformation, s3, endpoint, directory, parameters=parameters, authorities=authorities)

    # AWS's wss://API.execute-api.REGION.amazonaws.com/STAGE, where MiniStack serves it
    address = urlsplit(outputs["WebSocketUrl"])
    api = (address.hostname or "").partition(".")[0]
    stage = f"{urlsplit(endpoint).netloc}{WEBSOCKETS}/{api}{address.path}"
    management = session.client(
        "apigatewaymanagementapi", endpoint_url=f"http://{stage}", config=where["config"]
    )
    apis = session.client("apigatewayv2", **where)

    def invoke(function: str, event: Record) -> Record:
        name = outputs[f"{function}FunctionName"]
        answer = functions.invoke(FunctionName=name, Payload=json.dumps(event))
        response: Record = json.load(answer["Payload"])
        return response

    def replace(function: str) -> None:
        name = outputs[f"{function}FunctionName"]
        same = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": same})
        functions.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})

    tables = {"CONNECTIONS_TABLE": "TableName", "DELIVERIES_TABLE": "DeliveriesTableName"}
    optional = {"KEYS_TABLE": "KeysTableName", "TICKETS_TABLE": "TicketsTableName"}
    tables |= {variable: output for variable, output in optional.items() if output in outputs}

    return LocalStack(
        websocket_url=f"ws://{stage}",
        table=outputs["TableName"],
        dynamodb=dynamodb,
        gateway=LocalGateway(
            api, clients.enter_context(closing(apis)), clients.enter_context(closing(management))
        ),
        invoke=invoke,
        replace=replace,
        log=functions_log(directory),
        environment={
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": f"http://{stage}",
            "AWS_REGION": _REGION,
            "AWS_ACCESS_KEY_ID": _ROOT_USER,
            "AWS_SECRET_ACCESS_KEY": _ROOT_USER,
            "MESSAGE_QUEUE": outputs["MessageQueueName"],
        }
        | {variable: outputs[output] for variable, output in tables.items()},
        queue=queue,
        queue_url=queue.get_queue_url(QueueName=outputs["MessageQueueName"])["QueueUrl"],
    )


def _what_the_logs_say(directory: Path) -> str:
    """Keep the logs in *directory*; return where, and their last lines."""
    kept = Path(mkdtemp(prefix="switchboard-logs-"))
    said = [f"The logs are in {kept}"]
    for log in sorted(directory.glob("*.log")):
        shutil.copy(log, kept)
        said += [f"--- the end of {log.name}", *log.read_text(errors="replace").splitlines()[-5:]]
    return "\n".join(said)


def run(stack: LocalStack, screen: Screen) -> None:
    """Show how to connect, and then who is connected, until Ctrl-C; it ends with ``SystemExit``."""
    with serve_page(stack) as page:
        _show_how_to_connect(stack, page, screen)
        os.environ |= stack.environment
        try:
            command_line(["watch", "--every", "0.5"])
        except SystemExit as end:
            if end.code:
                raise LocalStackFailure("The live table failed; its reason is above.") from end
            raise


def _show_how_to_connect(stack: LocalStack, page: str, screen: Screen) -> None:
    url = f"{stack.websocket_url}?clientId=me&account=123456789012&region=eu-central-1"
    screen.say(f"It is up: {stack.websocket_url}")
    screen.say("Dashboards, who is connected, and alerts to send, on a page for your browser:")
    screen.add(page)
    screen.say("Connect from another terminal, or from a browser's console:")
    screen.add(f"wscat -c '{url}'", f"websocat '{url}'", f"new WebSocket('{url}')")
    screen.say("The command line, from another terminal:")
    screen.add(
        *(f"export {name}={value}" for name, value in stack.environment.items()),
        "make cli ARGS=ls",
        f"make cli ARGS='{SEND}'",
    )
    _add_differences(screen)
    screen.say("Who is connected, until Ctrl-C:")


def _demonstrate_tokens(screen: Screen) -> None:
    screen.say(
        "Starting oauth2-mock-server, an issuer of tokens, on localhost (the first time, downloading it)"
    )
    with (
        token_issuer() as issuer,
        local_stack(screen.say, parameters=token_parameters(issuer), authorities=issuer.authorities) as stack,
    ):
        token_demo(stack, issuer, screen)
        _add_differences(screen)


def _add_differences(screen: Screen) -> None:
    screen.say("Unlike on AWS:")
    screen.add(*(f"- {difference}" for difference in UNLIKE_AWS))


def main() -> None:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.local",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["demo", "run"])
    parser.add_argument("--tokens", action="store_true", help="of the demo: who shows no token is refused")
    arguments = parser.parse_args()
    command = arguments.command
    if command == "run" and arguments.tokens:
        parser.error("--tokens is an option of the demo")
    clear_aws_settings(os.environ)
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGHUP: the terminal was closed
        signal.signal(ending, signal.default_int_handler)
    screen = Screen()
    try:
        if arguments.tokens:
            _demonstrate_tokens(screen)
        else:
            with local_stack(screen.say) as stack:
                if command == "run":
                    run(stack, screen)
                else:
                    demo(stack, screen)
                    _add_differences(screen)
    except LocalStackFailure as failure:
        sys.exit("\n".join([str(failure), *getattr(failure, "__notes__", [])]))
    except KeyboardInterrupt:
        sys.exit(0 if command == "run" else 130)  # a demo cut short has shown nothing: as a shell has it


if __name__ == "__main__":
    main()
