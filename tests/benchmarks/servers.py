"""What the subjects speak to, each started for the run and ended with it, on loopback alone."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import certifi
import trustme  # type: ignore[import-not-found,unused-ignore]

from tests.benchmarks.subjects import ACCESS_KEY, REGION, Backend
from tests.dynamodb_local import running_dynamodb_local
from tests.template import table_properties

_HERE = Path(__file__).parent


@contextmanager
def stub(name: str, certificate: Path | None = None, bundle: Path | None = None) -> Iterator[Backend]:
    """The fast stub; over TLS with a *certificate* that an authority in *bundle* vouches for."""
    with subprocess.Popen(
        [sys.executable, "-P", _HERE / "stub.py", *([certificate] if certificate else [])],
        stdin=subprocess.PIPE,  # closes when this process ends, and ends the stub
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for us to handle
    ) as process:
        try:
            assert process.stdout
            scheme = "https" if certificate else "http"
            port = int(process.stdout.readline())
            yield Backend(name, f"{scheme}://127.0.0.1:{port}", "connections", bundle)
        finally:
            process.terminate()


@contextmanager
def dynamodb_local(name: str) -> Iterator[Backend]:
    """DynamoDB Local with a new table."""
    with running_dynamodb_local() as endpoint:
        client = boto3.session.Session().client(
            "dynamodb",
            region_name=REGION,
            endpoint_url=endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=ACCESS_KEY,
        )
        client.create_table(**table_properties() | {"TableName": "connections"})
        client.get_waiter("table_exists").wait(TableName="connections", WaiterConfig={"Delay": 1})
        client.close()
        yield Backend(name, endpoint, "connections")


def authority(folder: Path) -> tuple[Path, Path]:
    """A certificate for loopback with its key, and a bundle of authorities to check it against.

    The bundle is the public one (certifi's) with the local authority at its
    end: a subject that loads what AWS_CA_BUNDLE names loads as much as on AWS.
    """
    local = trustme.CA()
    certificate, bundle = folder / "certificate.pem", folder / "authorities.pem"
    local.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    bundle.write_bytes(Path(certifi.where()).read_bytes() + local.cert_pem.bytes())
    return certificate, bundle
