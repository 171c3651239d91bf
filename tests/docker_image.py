"""The image, built and run as Lambda runs it: any user, a read-only file system, 128 MB of memory.

The classic builder builds it here (testcontainers knows no other); `make image`
builds it with whichever builder the machine prefers.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
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

ACCESS_KEY = "local"  # DynamoDB Local wants letters and digits only
TASK_ROOT = "/var/task"

type Record = dict[str, Any]

# What Lambda itself sets: the environment where the template asks for JSON logs, limits and rights.
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
    "memswap_limit": "128m",  # the sum: no swap, which would hide that memory is short
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}
_CHECKOUT = Path(__file__).parent.parent
_SOME_USER = "993:990"  # Lambda's is one of its own; it owns nothing in the image
_INVOCATIONS = "/2015-03-31/functions/function/invocations"


def base_image() -> str:
    """The image that ours is built on: BASE_IMAGE where that is set, else what the Dockerfile says."""
    default = re.search(r"^ARG BASE_IMAGE=(\S+)$", (_CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)
    assert default, "the Dockerfile names no base image"
    return os.environ.get("BASE_IMAGE") or default[1]


def built_image() -> str:
    """Build the image and return its tag; it stays for the next build."""
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
        error.add_note("".join(line.get("stream", "") for line in error.build_log))  # what the builder said
        raise


class Function:
    """A running function, called through the Lambda runtime interface emulator: one call at a time."""

    def __init__(self, container: DockerContainer) -> None:
        self._container = container

    def __call__(self, event: Event) -> Any:
        """Invoke it, and return what the handler answered."""
        emulator = HTTPConnection(
            self._container.get_container_host_ip(), self._container.get_exposed_port(8080), timeout=60
        )
        try:
            emulator.request("POST", _INVOCATIONS, json.dumps(event))
            return json.loads(emulator.getresponse().read())
        finally:
            emulator.close()

    def log(self) -> str:
        """All that it has written so far, the emulator's own lines among it."""
        return "\n".join(stream.decode() for stream in self._container.get_logs())

    def record(self, event: str, connection_id: str) -> Record:
        """The one record of *event* for a connection, once it is in the log: lines come after the answer."""
        try:
            eventually(lambda: bool(self._records(event, connection_id)), within=timedelta(seconds=5))
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
    """A function of the image, by its *command* or by the image's own."""
    container = (
        DockerContainer(image)
        .with_network(network)
        .with_envs(**_ENVIRON_ON_LAMBDA | environ)
        .with_kwargs(user=_SOME_USER, **_AS_ON_LAMBDA)
        .waiting_for(HttpWaitStrategy(8080).for_status_code(404))  # the emulator, which has no such page
    )
    if command is not None:
        container.with_command([command])
    with published(container, 8080):
        yield Function(container)


@contextmanager
def published(container: DockerContainer, port: int) -> Iterator[None]:
    """Run *container* with its *port* on this machine's loopback alone."""
    # docker-py takes an address with the port: without it, the whole network could reach the container
    container.ports[f"{port}/tcp"] = ("127.0.0.1", None)  # type: ignore[assignment]
    with container:
        yield


def python_in_image(image: str, code: str, *, user: str = _SOME_USER, **environ: str) -> str:
    """What *code* prints in the image, without a network.

    Raises:
        AssertionError: it failed.
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
