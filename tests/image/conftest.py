"""The image, a network, and a DynamoDB Local on it with the host name ``dynamodb``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HttpWaitStrategy

from tests.docker_image import ACCESS_KEY, base_image, built_image, published
from tests.dynamodb_local import IMAGE, REGION
from tests.lanes import image_is_missing, leave_out

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture(scope="session")
def image() -> str:
    if why := image_is_missing(base_image()) or image_is_missing(IMAGE):
        leave_out(why)
    return built_image()


@pytest.fixture(scope="session")
def network(image: str) -> Iterator[Network]:
    """A network for the session, created after ``image`` has found a Docker engine."""
    with Network() as network:
        yield network


@pytest.fixture(scope="session")
def database(network: Network) -> Iterator["DynamoDBClient"]:
    container = (
        DockerContainer(IMAGE)
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
        yield client
        client.close()
