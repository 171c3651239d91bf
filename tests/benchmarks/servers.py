"""The servers that the subjects call: on loopback, started for the run and ended with it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import boto3
import certifi
import trustme  # type: ignore[import-not-found,unused-ignore]  # group bench

from tests.benchmarks.assemble import CHECKOUT, amazon_roots
from tests.benchmarks.subjects import ACCESS_KEY, REGION, Backend, Bundles
from tests.dynamodb_local import running_dynamodb_local
from tests.template import table_properties

_HERE = Path(__file__).parent


@contextmanager
def stub(
    name: str, certificate: Path | None = None, bundles: Bundles | None = None, *, item: str = "{}"
) -> Iterator[Backend]:
    """Run the fast stub; over TLS with a *certificate* that is issued by an authority in *bundles*.

    *item* is what it has, as DynamoDB's JSON.
    """
    arguments = [str(certificate)] if certificate else []
    with _serving("-P", str(_HERE / "stub.py"), *arguments, environ={"STUB_ITEM": item}) as port:
        scheme = "https" if certificate else "http"
        yield Backend(name, f"{scheme}://127.0.0.1:{port}", "connections", bundles)


@contextmanager
def management_api() -> Iterator[str]:
    """Run the slow stub of the gateway; its endpoint is that of an API's stage."""
    with _serving("-m", "tests.benchmarks.sweep_gateway") as port:
        yield f"http://127.0.0.1:{port}/prod"


@contextmanager
def _serving(*arguments: str, environ: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run a Python process, and yield the port on which it serves."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.PIPE,  # closes when this process ends, and ends the stub
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for us to handle
    ) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@contextmanager
def dynamodb_local(name: str) -> Iterator[Backend]:
    """Run DynamoDB Local with a new table."""
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


def authority(folder: Path) -> tuple[Path, Bundles]:
    """Return a certificate for loopback with its key, and the bundles of authorities that verify it."""
    local = trustme.CA()
    certificate, bundles = folder / "certificate.pem", Bundles(folder / "public.pem", folder / "amazon.pem")
    local.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    bundles.public.write_bytes(Path(certifi.where()).read_bytes() + local.cert_pem.bytes())
    bundles.amazon.write_bytes(amazon_roots().encode() + local.cert_pem.bytes())
    return certificate, bundles
