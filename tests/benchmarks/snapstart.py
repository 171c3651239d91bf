"""``make bench ARGS=snapstart``: the first $connect after a restore, over a later one and over a cold start.

A restore is a copy of the process (tests/snapshots.py). What Lambda itself takes
for a restore is not in the figures.
"""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from uuid import uuid4

from tests.benchmarks.assemble import CHECKOUT, PYTHON, assemble
from tests.benchmarks.figures import STUB, STUB_TLS, ratio
from tests.benchmarks.measure import Calls, SubjectFailed, measure
from tests.benchmarks.servers import authority, stub
from tests.benchmarks.subjects import OURS, SUBJECTS, Backend
from tests.builders import a_connect_event
from tests.credentials_endpoint import credentials_endpoint
from tests.sending.checks import Verdict

_LATER = 30
"""$connects after the first; their median is that of a later one."""
_BAR_MS = 5.0
_PROGRAM = (str(PYTHON), "-s", "-P", str(CHECKOUT / "tests" / "snapshots.py"))
_SUBJECT = next(it for it in SUBJECTS if it.name == OURS)

type Sample = Mapping[str, float]


def measure_snapstart(pairs: int, status: Callable[[str], None]) -> list[Verdict]:
    """Return the figures against each stub."""
    status("assembling the functions in build/bench")
    assemble()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        certificate, bundles = authority(folder)
        credentials = stack.enter_context(credentials_endpoint()).environ()
        backends = [
            stack.enter_context(stub(STUB)),
            stack.enter_context(stub(STUB_TLS, certificate, bundles)),
        ]
        return [
            verdict
            for backend in backends
            for verdict in _verdicts(backend.name, _samples(backend, credentials, pairs, status))
        ]


def _samples(
    backend: Backend, credentials: Mapping[str, str], pairs: int, status: Callable[[str], None]
) -> Sequence[Sample]:
    samples = []
    for pair in range(pairs + 1):  # the first is discarded
        status(f"{backend.name}: pair {pair} of {pairs}")
        cold = measure(_SUBJECT, backend, Calls(1, 1))["cold_ms"]
        sample = {"cold": cold, **_restored(backend, credentials)}
        if pair:
            samples.append(sample)
    return samples


def _restored(backend: Backend, credentials: Mapping[str, str]) -> Sample:
    """Return the milliseconds of one restore, in a process of its own."""
    environ = {**_SUBJECT.environ_for(backend), "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", **credentials}
    events = [a_connect_event(f"{uuid4().hex[:8]}{number}=") for number in range(1 + _LATER)]
    ended = subprocess.run(
        [*_PROGRAM, f"{_SUBJECT.module}.connect"],
        env=environ,
        cwd=_SUBJECT.folder,
        input=f"{json.dumps(events)}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise SubjectFailed(ended.stderr[-2000:])
    seen = json.loads(ended.stdout.splitlines()[-1])
    if any(answer != {"statusCode": 200, "body": "connected"} for answer in seen["answers"]):
        raise SubjectFailed(f"It answered {seen['answers']}.")
    (first_wall, first), *later = seen["callsNs"]
    hooks_wall, hooks = seen["restoreNs"]
    return {
        "first": first / 1e6,
        "later": median(cpu for _, cpu in later) / 1e6,
        "hooks": hooks / 1e6,
        "restored": (hooks_wall + first_wall) / 1e6,
    }


def _verdicts(backend: str, samples: Sequence[Sample]) -> list[Verdict]:
    def each(name: str) -> list[float]:
        return [sample[name] for sample in samples]

    more = median(sample["first"] - sample["later"] for sample in samples)
    over = ratio(each("restored"), each("cold"))
    return [
        Verdict(
            f"first $connect over a later one, CPU, {backend}",
            f"{median(each('first')):.2f} to {median(each('later')):.2f} ms: {more:.2f} ms more",
            f"{_BAR_MS:.0f} ms",
            more < _BAR_MS,
        ),
        Verdict(f"the hooks after the restore, CPU, {backend}", f"{median(each('hooks')):.2f} ms", "", None),
        Verdict(
            f"hooks and first $connect, without the restore, over a cold start, {backend}",
            f"{median(each('restored')):.1f} to {median(each('cold')):.1f} ms: "
            f"{over.median:.2f} ({over.low:.2f} to {over.high:.2f})",
            "",
            None,
        ),
    ]
