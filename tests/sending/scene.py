"""Where a message is sent to many recipients: a gateway that knows what each got, and their pages."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import trustme

from infra.process import CLOCK
from tests.dynamodb_local import REGION
from tests.gateway_server import GatewayServer, Plan, gateway_server
from tests.sending.once import Done, Task
from tests.sending.pages import running_pages

CHECKOUT = Path(__file__).parents[2]
ACCESS_KEY = "local"  # DynamoDB Local wants letters and digits only
SESSION_TOKEN = "t" * 900  # about as long as Lambda's
_PATIENCE = timedelta(minutes=2)  # with any program


class Scene(NamedTuple):
    """The seed, the servers, and the environment of the programs that call them."""

    seed: int
    gateway: GatewayServer
    pages: str
    environ: Mapping[str, str]

    def task(self, recipients: int, rate: int | None = None) -> Task:
        task = Task(self.gateway.endpoint, recipients)
        return task if rate is None else task._replace(rate=rate)

    def deliver(self, task: Task, plan: Plan | None = None) -> Done:
        """Deliver a message to clients that behave by *plan*."""
        self.gateway.follow(plan or Plan())
        with self.start(task) as process:
            return done(process)

    def start(self, task: Task) -> "subprocess.Popen[str]":
        return self.run("tests.sending.once", json.dumps(task))

    def run(self, module: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start a program."""
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=CHECKOUT,
            env=self.environ,
            stdout=subprocess.PIPE,
            text=True,
        )


@contextmanager
def a_scene(seed: int) -> Iterator[Scene]:
    """Run the servers until the block ends, over TLS."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority = trustme.CA()
        certificate, bundle = folder / "certificate.pem", folder / "authority.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        authority.cert_pem.write_to_path(bundle)
        yield Scene(
            seed,
            stack.enter_context(gateway_server(certificate=certificate)),
            stack.enter_context(running_pages(certificate)),
            {
                "PATH": os.environ["PATH"],
                "HOME": str(folder / "nobody"),  # does not exist: no file of the caller's is read
                "LANG": "C.UTF-8",
                "AWS_REGION": REGION,
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": ACCESS_KEY,
                "AWS_SESSION_TOKEN": SESSION_TOKEN,
                "AWS_CA_BUNDLE": str(bundle),
            }
            | {name: value for name, value in os.environ.items() if name.startswith(CLOCK)},
        )


def output(process: "subprocess.Popen[str]") -> str:
    """Return what *process* prints, once it has ended."""
    printed, _ = process.communicate(timeout=_PATIENCE.total_seconds())
    assert process.returncode == 0, f"{process.args!r} ended with {process.returncode}"
    return printed


def done(process: "subprocess.Popen[str]") -> Done:
    """Return what a delivery has come to."""
    return Done(**json.loads(output(process)))
