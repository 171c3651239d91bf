"""The image, built and run as on Lambda: any user, a read-only file system, 128 MB of memory.

Tests use Docker's classic builder, the only one that testcontainers supports;
`make image` uses the machine's default builder.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from docker.errors import BuildError
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HttpWaitStrategy

from tests.builders import Event
from tests.deadline import eventually
from tests.dynamodb_local import REGION
from tests.environment import UNHURRIED

ACCESS_KEY = "local"  # DynamoDB Local wants letters and digits only
TASK_ROOT = "/var/task"

type Record = dict[str, Any]

# Lambda's own variables with the template's JSON logs; below, Lambda's limits and permissions.
_ENVIRON_ON_LAMBDA = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": ACCESS_KEY,
    "AWS_REGION": REGION,
    "AWS_LAMBDA_LOG_FORMAT": "JSON",
    "AWS_LAMBDA_LOG_LEVEL": "INFO",
}
_AS_ON_LAMBDA = {
    "read_only": True,
    "mem_limit": "128m",
    "memswap_limit": "128m",  # memory and swap together: no swap
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}
_CHECKOUT = Path(__file__).parent.parent
_SOME_USER = "993:990"  # it owns no file in the image, like Lambda's user
_INVOCATIONS = "/2015-03-31/functions/function/invocations"


def base_image() -> str:
    """Return the name of the base image: BASE_IMAGE if it is set, else the Dockerfile's default."""
    default = re.search(r"^ARG BASE_IMAGE=(\S+)$", (_CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)
    assert default, "the Dockerfile names no base image"
    return os.environ.get("BASE_IMAGE") or default[1]


def built_image() -> str:
    """Build the image and return its tag; it is kept as a cache for the next build.

    With TESTED_IMAGE, return that: a release tests the image that it publishes.
    """
    if tested := os.environ.get("TESTED_IMAGE"):
        return tested
    base = os.environ.get("BASE_IMAGE")
    image = DockerImage(
        path=_CHECKOUT,
        tag="switchboard:test",
        clean_up=False,
        buildargs={"BASE_IMAGE": base} if base else {},
        forcerm=True,
    )
    try:
        with image:
            return str(image)
    except BuildError as error:
        error.add_note("".join(line.get("stream", "") for line in error.build_log))  # the builder's output
        raise


class Function:
    """A running function, called through the Lambda runtime interface emulator: one call at a time."""

    def __init__(self, container: DockerContainer) -> None:
        self._container = container

    def __call__(self, event: Event) -> Any:
        """Invoke it, and return the handler's answer."""
        emulator = HTTPConnection(
            self._container.get_container_host_ip(), self._container.get_exposed_port(8080), timeout=60
        )
        try:
            emulator.request("POST", _INVOCATIONS, json.dumps(event))
            return json.loads(emulator.getresponse().read())
        finally:
            emulator.close()

    def log(self) -> str:
        """Return its output so far, the emulator's own lines included."""
        return "\n".join(stream.decode() for stream in self._container.get_logs())

    def record(self, event: str, connection_id: str) -> Record:
        """Wait for the one log record of *event* for a connection; it may be later than the answer."""
        try:
            eventually(lambda: bool(self._records(event, connection_id)))
        except TimeoutError as error:
            error.add_note(f"No {event} of {connection_id} in:\n{self.log()}")
            raise
        (record,) = self._records(event, connection_id)
        return record

    def _records(self, event: str, connection_id: str) -> list[Record]:
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [
            line for line in lines if (line.get("event"), line.get("connectionId")) == (event, connection_id)
        ]


@contextmanager
def running_function(
    image: str, network: Network, *, command: str | None = None, **environ: str
) -> Iterator[Function]:
    """Run a function of the image, with *command* or the image's own."""
    container = (
        DockerContainer(image)
        .with_network(network)
        .with_envs(**_ENVIRON_ON_LAMBDA | UNHURRIED | environ)
        .with_kwargs(user=_SOME_USER, **_AS_ON_LAMBDA)
        .waiting_for(HttpWaitStrategy(8080).for_status_code(404))  # the emulator answers 404 once it is up
    )
    if command is not None:
        container.with_command([command])
    with published(container, 8080):
        yield Function(container)


@contextmanager
def published(container: DockerContainer, port: int) -> Iterator[None]:
    """Run *container* with its *port* published on loopback only."""
    # with an address (docker-py): without one, the port is open to the whole network
    container.ports[f"{port}/tcp"] = ("127.0.0.1", None)  # type: ignore[assignment]  # typed too narrowly
    with container:
        yield


def python_in_image(image: str, code: str, *, user: str = _SOME_USER, **environ: str) -> str:
    """Run *code* in the image, without a network, and return its output.

    Raises:
        AssertionError: the code failed.
    """
    with (
        DockerContainer(image)
        .with_command(["-c", code])
        .with_envs(**_ENVIRON_ON_LAMBDA | environ)
        .with_kwargs(entrypoint="python3", user=user, network_mode="none", **_AS_ON_LAMBDA) as container
    ):
        status = container.wait()
        printed, errors = (stream.decode() for stream in container.get_logs())
    assert status == 0, errors
    return printed
