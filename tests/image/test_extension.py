"""An image FROM ours, with the storage adapter of tests/extension, on PostgreSQL."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network

from tests.builders import a_connect_event, a_disconnect_event
from tests.docker_image import Function, running_function
from tests.lanes import image_is_missing, leave_out
from tests.postgres import DATABASE, EXTENSION, IMAGE, a_container

DOCKERFILE = (EXTENSION / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def extended_image(image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image that the adapter's Dockerfile builds, from the image under test."""
    assert DOCKERFILE.startswith("FROM switchboard\n")
    dockerfile = tmp_path_factory.mktemp("image") / "Dockerfile"
    dockerfile.write_text(DOCKERFILE.replace("FROM switchboard", f"FROM {image}", 1))
    with DockerImage(
        path=EXTENSION,
        dockerfile_path=str(dockerfile),
        tag="switchboard-postgres:test",
        clean_up=False,
        forcerm=True,
    ) as built:
        return str(built)


@pytest.fixture(scope="module")
def database_url(network: Network) -> Iterator[str]:
    """The URL, for the containers of the network, of a database with the adapter's schema."""
    if why := image_is_missing(IMAGE):
        leave_out(why)
    container = a_container().with_network(network).with_network_aliases("postgres")
    with container:
        schema = (EXTENSION / "switchboard_postgres" / "schema.sql").read_text()
        psql = (
            "psql",
            "--host=127.0.0.1",
            f"--username={DATABASE}",
            "--set=ON_ERROR_STOP=1",
            f"--command={schema}",
        )
        status, output = container.exec(["env", f"PGPASSWORD={DATABASE}", *psql])
        assert status == 0, output
        yield f"postgresql://{DATABASE}:{DATABASE}@postgres/{DATABASE}"


def test_handshakes_and_sweep_run_on_the_adapter(
    extended_image: str, network: Network, database_url: str
) -> None:
    with ExitStack() as running:

        def function(command: str) -> Function:
            return running.enter_context(
                running_function(
                    extended_image, network, command=f"app.entrypoints.{command}", POSTGRES_URL=database_url
                )
            )

        connect, disconnect = function("aws_lambda.connect"), function("aws_lambda.disconnect")
        connected = connect(a_connect_event("recorded"))
        report = function("aws_sweep.handler")({"dryRun": True})
        disconnected = disconnect(a_disconnect_event("recorded"))

        assert connected == {"statusCode": 200, "body": "connected"}
        assert (report["event"], report["scanned"]) == ("sweep.finished", 1)
        assert disconnected == {"statusCode": 200, "body": "disconnected"}
        assert disconnect.record("connection.closed", "recorded")["found"] is True


def test_without_its_setting_the_function_fails_to_start_with_the_reason(
    extended_image: str, network: Network
) -> None:
    with running_function(extended_image, network) as function:
        answer = function(a_connect_event())

    assert answer["errorType"] == "InvalidSetting"
    assert answer["errorMessage"].startswith(
        "STORE=switchboard_postgres:storage: POSTGRES_URL must be the URL of a database"
    )


def test_the_documents_have_the_dockerfile() -> None:
    page = (Path(__file__).parents[2] / "infra" / "docs" / "extending.md").read_text("utf-8")

    assert f"```dockerfile\n{DOCKERFILE}```\n" in page
