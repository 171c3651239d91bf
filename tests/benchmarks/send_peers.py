"""Programs to compare with: each prints the seconds of time and of CPU that it took, as JSON.

``floor``: libcurl alone sends the message. ``boto3``: the SDK sends it, one
after the other. ``threads``: probes as they were before libcurl, signed by the
SDK and sent by urllib3 in threads. ``sweep``: our sweep.
"""

import json
import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import boto3
import pycurl
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.session import Session
from urllib3 import PoolManager, Timeout

from app.adapters.clock import SystemClock
from app.adapters.gateway import ManagementApiGateway
from app.adapters.memory import MemoryConnectionTable
from app.adapters.threads import ThreadWorkers
from app.domain.sweep import Outcome, SweepConnections
from app.settings import SweepSettings
from tests.dynamodb_local import REGION
from tests.fakes import RecordingPublisher
from tests.sending.once import a_message, cpu_time
from tests.sending.pages import a_recipient

_CONNECTIONS = 128
_THREADS = 32
_SERVICE = "execute-api"
_SWEEP = SweepSettings()


class Took(NamedTuple):
    """Seconds of time and of CPU."""

    seconds: float
    cpu: float


def measure(program: str, endpoint: str, requests: int) -> Took:
    """Run a program."""
    ids = [a_recipient(number).id for number in range(requests)]
    work = _PROGRAMS[program](endpoint, ids)
    wall, cpu = time.perf_counter(), cpu_time()
    succeeded = work()
    took = Took(time.perf_counter() - wall, cpu_time() - cpu)
    assert succeeded == requests, f"{succeeded} of {requests}"
    return took


def _bare_loop(endpoint: str, ids: Sequence[str]) -> Callable[[], int]:
    frame = a_message(SystemClock().now()).frame
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_MAXCONNECTS, 2 * _CONNECTIONS)
    idle = [_transfer(frame) for _ in range(_CONNECTIONS)]
    urls = iter([f"{endpoint}/@connections/{quote(it, safe='')}" for it in ids])

    def run() -> int:
        done = succeeded = 0
        while done < len(ids):
            while idle and (url := next(urls, None)):
                curl = idle.pop()
                curl.setopt(pycurl.URL, url)
                multi.add_handle(curl)
            multi.perform()
            for curl in _ended(multi):
                multi.remove_handle(curl)
                succeeded += curl.getinfo(pycurl.RESPONSE_CODE) == 200
                done += 1
                idle.append(curl)
            if not idle:
                multi.select(0.05)
        return succeeded

    return run


def _transfer(frame: bytes) -> pycurl.Curl:
    """Return a transfer with the options that ours has."""
    environ = os.environ
    curl = pycurl.Curl()
    curl.setopt(pycurl.NOSIGNAL, 1)
    curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    curl.setopt(pycurl.CONNECTTIMEOUT_MS, 1000)
    curl.setopt(pycurl.TIMEOUT_MS, 3000)
    curl.setopt(pycurl.CAINFO, environ["AWS_CA_BUNDLE"])
    curl.setopt(pycurl.WRITEFUNCTION, len)
    curl.setopt(pycurl.NOPROXY, "*")
    token = f"X-Amz-Security-Token: {environ['AWS_SESSION_TOKEN']}"
    curl.setopt(pycurl.HTTPHEADER, ["Content-Type: application/octet-stream", token])
    curl.setopt(pycurl.AWS_SIGV4, f"aws:amz:{REGION}:{_SERVICE}")
    curl.setopt(pycurl.USERNAME, environ["AWS_ACCESS_KEY_ID"])
    curl.setopt(pycurl.PASSWORD, environ["AWS_SECRET_ACCESS_KEY"])
    curl.setopt(pycurl.CUSTOMREQUEST, "POST")
    curl.setopt(pycurl.POSTFIELDS, frame)
    return curl


def _ended(multi: pycurl.CurlMulti) -> Iterator[pycurl.Curl]:
    while True:
        left, answered, failed = multi.info_read()
        yield from answered
        for curl, _, _ in failed:
            yield curl
        if not left:
            return


def _boto3(endpoint: str, ids: Sequence[str]) -> Callable[[], int]:
    client = boto3.session.Session(region_name=REGION).client(
        "apigatewaymanagementapi", endpoint_url=endpoint
    )
    frame = a_message(SystemClock().now()).frame

    def run() -> int:
        for connection_id in ids:
            client.post_to_connection(ConnectionId=connection_id, Data=frame)
        return len(ids)

    return run


def _in_threads(endpoint: str, ids: Sequence[str]) -> Callable[[], int]:
    parts = urlsplit(endpoint)
    origin = f"{parts.scheme}://{parts.netloc}"
    credentials = Session().get_credentials()
    assert credentials is not None
    pool = PoolManager(
        maxsize=_THREADS,
        timeout=Timeout(connect=1, read=2),
        ssl_context=ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"]),
    ).connection_from_url(origin)

    def probe(connection_id: str) -> bool:
        path = f"{parts.path}/@connections/{quote(connection_id, safe='')}"
        request = AWSRequest("GET", origin + path, headers={})
        SigV4Auth(credentials.get_frozen_credentials(), _SERVICE, REGION).add_auth(request)
        headers = dict(request.headers.items())
        return pool.urlopen("GET", path, headers=headers, redirect=False, retries=False).status == 200

    def run() -> int:
        with ThreadPoolExecutor(_THREADS) as threads:
            return sum(threads.map(probe, ids))

    return run


def _sweep(endpoint: str, ids: Sequence[str]) -> Callable[[], int]:
    table = MemoryConnectionTable()
    for number in range(len(ids)):
        table.add(a_recipient(number))
    clock = SystemClock()
    sweep = SweepConnections(
        table,
        ManagementApiGateway(region=REGION, endpoint=endpoint, connections=_SWEEP.concurrency),
        clock,
        ThreadWorkers(_SWEEP.concurrency),
        _SWEEP.grace,
        _SWEEP.rate,
        RecordingPublisher(),
    )

    def run() -> int:
        report = sweep(segment=0, of=1, until=clock.now() + timedelta(minutes=1))
        return report.outcomes[Outcome.ALIVE]

    return run


_PROGRAMS = {"floor": _bare_loop, "boto3": _boto3, "threads": _in_threads, "sweep": _sweep}

if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
