"""``make bench-image``: cold starts and warm calls in images, as Lambda runs them, by the client's clock.

Each figure is of new containers, side by side, in alternating order; the first
round is discarded. The emulator starts the runtime at the first request, so the
time of that answer is the cold start. Every figure includes the cost of the
emulator and the network, which the floor shows.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from shutil import copytree
from statistics import median
from tempfile import TemporaryDirectory
from typing import cast
from uuid import uuid4

import boto3
import docker
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HttpWaitStrategy

from tests.benchmarks.assemble import BUILD, CHECKOUT, assemble
from tests.benchmarks.figures import IMAGE, compare
from tests.benchmarks.measure import Calls, Sample
from tests.benchmarks.report import a_console, show, show_sizes, write_json
from tests.benchmarks.subjects import ACCESS_KEY, FLOOR, OURS, REGION, SEED, SESSION_TOKEN
from tests.builders import a_connect_event, a_disconnect_event
from tests.deadline import eventually
from tests.docker_image import base_image, built_image, published
from tests.dynamodb_local import IMAGE as DATABASE_IMAGE
from tests.template import table_properties

_INVOCATIONS = "/2015-03-31/functions/function/invocations"
_ROUTES = {"connect": a_connect_event, "disconnect": a_disconnect_event}
_ENVIRON = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": ACCESS_KEY,
    "AWS_SESSION_TOKEN": SESSION_TOKEN,
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_LAMBDA_LOG_FORMAT": "JSON",
    "AWS_LAMBDA_LOG_LEVEL": "INFO",
    "AWS_ENDPOINT_URL_DYNAMODB": "http://dynamodb:8000",
    "CONNECTIONS_TABLE": "connections",
}
_AS_ON_LAMBDA = {
    "user": "993:990",
    "read_only": True,
    "mem_limit": "1g",  # enough for all: only time is measured
    "memswap_limit": "1g",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}
_SEED_DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY function ${LAMBDA_TASK_ROOT}
"""


@dataclass(frozen=True, slots=True)
class Function:
    """A subject in an image; ``module`` holds its handlers."""

    name: str
    image: str
    module: str


def main() -> None:
    options = _options()
    console = a_console()
    began = time.monotonic()
    console.print("Building the images ...")
    assemble()
    ours, seed = built_image(), _seed_image()
    functions = [
        Function(SEED, seed, "seed"),
        Function(OURS, ours, "app.entrypoints.aws_lambda"),
        Function(FLOOR, seed, "floor"),
    ]
    calls = Calls(options.warm_up, options.calls)
    samples: dict[str, list[Sample]] = {function.name: [] for function in functions}
    with Network() as network, _database(network), console.status("") as status:
        for pair in range(options.pairs + 1):  # the first is discarded
            status.update(f"pair {pair} of {options.pairs}" if pair else "warming up")
            for function in functions if pair % 2 else reversed(functions):
                sample = _measured(function, network, calls)
                if pair:
                    samples[function.name].append(sample)

    comparisons = compare(IMAGE, samples)
    base = _size(base_image())
    sizes = {OURS: _size(ours) - base, SEED: _size(seed) - base}
    console.print()
    show(console, comparisons)
    show_sizes(console, sizes, "Added to the base image")
    write_json(
        CHECKOUT / "build" / "bench-image.json",
        target="bench-image",
        calls=calls,
        samples={IMAGE: samples},
        comparisons=comparisons,
        sizes=sizes,
        baseImage=base_image(),
    )
    console.print(f"{options.pairs} pairs in {time.monotonic() - began:.0f} s; build/bench-image.json")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.image", description=__doc__)
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--calls", type=int, default=100, help="measured warm calls of each container")
    parser.add_argument("--warm-up", type=int, default=20, help="calls before those")
    return parser.parse_args()


def _seed_image() -> str:
    """Return the name of the base image with build/bench/seed and the floor's function."""
    with TemporaryDirectory() as context:
        copytree(BUILD / "seed", Path(context) / "function")
        copytree(BUILD / "floor", Path(context) / "function", dirs_exist_ok=True)
        (Path(context) / "Dockerfile").write_text(_SEED_DOCKERFILE)
        arguments = {"BASE_IMAGE": base_image()}
        image = DockerImage(context, tag="switchboard:seed", clean_up=False, buildargs=arguments)
        with image:
            return str(image)


@contextmanager
def _database(network: Network) -> Iterator[None]:
    """Run DynamoDB Local with a table, at the host name ``dynamodb``."""
    container = (
        DockerContainer(DATABASE_IMAGE)
        .with_network(network)
        .with_network_aliases("dynamodb")
        .waiting_for(HttpWaitStrategy(8000).for_status_code(400))  # its answer to an unsigned request
    )
    with published(container, 8000):
        client = boto3.session.Session().client(
            "dynamodb",
            region_name=REGION,
            endpoint_url=f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8000)}",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=ACCESS_KEY,
        )
        client.create_table(**table_properties() | {"TableName": "connections"})
        client.close()
        yield


def _measured(function: Function, network: Network, calls: Calls) -> Sample:
    """Return the time of the first answer of a new container, and the median of the warm ones, by route."""
    run = uuid4().hex[:8]
    sample: dict[str, float] = {}
    for route in _ROUTES:
        with _running(function, route, network) as emulator:
            times = [
                _timed(emulator, route, f"{run}-{number}")
                for number in range(1 + calls.warm_up + calls.measured)
            ]
        sample["cold_ms" if route == "connect" else "disconnect_cold_ms"] = times[0] / 1e6
        sample[f"{route}_wall_us"] = median(times[1 + calls.warm_up :]) / 1e3
    return sample


@contextmanager
def _running(function: Function, route: str, network: Network) -> Iterator[HTTPConnection]:
    container = (
        DockerContainer(function.image)
        .with_command([f"{function.module}.{route}"])
        .with_network(network)
        .with_envs(**_ENVIRON)
        .with_kwargs(**_AS_ON_LAMBDA)
    )
    with published(container, 8080):
        emulator = HTTPConnection(
            container.get_container_host_ip(), container.get_exposed_port(8080), timeout=60
        )
        try:
            eventually(lambda: _is_up(emulator), within=timedelta(seconds=30))
            yield emulator
        finally:
            emulator.close()


def _is_up(emulator: HTTPConnection) -> bool:
    """Return whether the emulator answers; it has no such page, so it starts no runtime."""
    with suppress(OSError, HTTPException):
        emulator.request("GET", "/")
        answer = emulator.getresponse()
        answer.read()
        return answer.status == HTTPStatus.NOT_FOUND
    emulator.close()
    return False


def _timed(emulator: HTTPConnection, route: str, connection_id: str) -> int:
    """Return the nanoseconds from the request to its answer."""
    event = json.dumps(_ROUTES[route](connection_id))
    began = time.perf_counter_ns()
    emulator.request("POST", _INVOCATIONS, event)
    body = emulator.getresponse().read()
    took = time.perf_counter_ns() - began
    answer = json.loads(body)
    if answer != {"statusCode": 200, "body": f"{route}ed"}:
        raise SystemExit(f"{route} answered {answer}")
    return took


def _size(image: str) -> int:
    engine = docker.from_env()
    try:
        return cast("int", engine.images.get(image).attrs["Size"])
    finally:
        engine.close()


if __name__ == "__main__":
    main()
