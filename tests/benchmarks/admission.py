"""``make bench ARGS=admission``: handshakes that show a token or a ticket, over those of ADMISSION=open."""

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.benchmarks.assemble import assemble
from tests.benchmarks.figures import STUB, STUB_TLS, Figure, ratio
from tests.benchmarks.instructions import can_count, count
from tests.benchmarks.measure import Calls, Sample, measure
from tests.benchmarks.servers import authority, stub
from tests.benchmarks.subjects import OURS, SUBJECTS, Backend, Subject
from tests.sending.checks import Verdict

_ISSUER = "https://issuer.example.com/"
_AUDIENCE = "switchboard"
_KEY_ID = "k1"
_TOKEN = {
    "ADMISSION": "token",
    "TOKEN_ISSUER": _ISSUER,
    "TOKEN_AUDIENCE": _AUDIENCE,
    "ACCOUNTS_CLAIM": "accounts",
    "REGIONS_CLAIM": "regions",
    "KEYS_TABLE": "keys",
}
_CALLS = Calls(warm_up=30, measured=200)

RS256, ES256, TICKET = "token, RS256", "token, ES256", "ticket"

_BAR = {RS256: 1.20, ES256: 1.20}
_FIGURES = (
    Figure("bare_cold_ms", "cold start", "ms", _BAR),
    Figure("cold_ms", "with Lambda's runtime", "ms", {}),
    Figure("connect_cpu_us", "$connect, CPU", "µs", {}),
    Figure("memory_mb", "peak memory", "MB", {}),
)


class Issued:
    """An issuer's two keys, as the keys function keeps them, and a token by each."""

    def __init__(self) -> None:
        self._rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._ec = ec.generate_private_key(ec.SECP256R1())
        self._at = int(time.time())

    def item(self) -> str:
        """The item of the keys, as DynamoDB's JSON."""
        modulus = self._rsa.public_key().public_numbers()
        point = self._ec.public_key().public_numbers()
        keys = {
            f"{_KEY_ID}-RS256": {"kty": "RSA", "n": _base64(modulus.n, 256), "e": _base64(modulus.e, 3)},
            f"{_KEY_ID}-ES256": {
                "kty": "EC",
                "crv": "P-256",
                "x": _base64(point.x, 32),
                "y": _base64(point.y, 32),
            },
        }
        return json.dumps(
            {
                "issuer": {"S": _ISSUER},
                "fetchedAt": {"N": str(self._at * 1000)},
                "keys": {"S": json.dumps(keys)},
            }
        )

    def token(self, algorithm: str) -> str:
        """A token as an identity provider issues them, valid for an hour."""
        claims = {
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "sub": "dashboard-7",
            "iat": self._at,
            "exp": self._at + 3600,
            "accounts": ["123456789012", "111122223333"],
            "regions": "*",
        }
        key = self._rsa if algorithm == "RS256" else self._ec
        return jwt.encode(claims, key, algorithm, headers={"kid": f"{_KEY_ID}-{algorithm}"})


def measure_admission(pairs: int, status: Callable[[str], None]) -> list[Verdict]:
    """Return the figures of each kind of admission over those of ADMISSION=open."""
    status("assembling the functions in build/bench")
    assemble()
    issued = Issued()
    subjects = _subjects(issued)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        certificate, bundles = authority(folder)
        backends = [
            stack.enter_context(stub(STUB, item=issued.item())),
            stack.enter_context(stub(STUB_TLS, certificate, bundles, item=issued.item())),
        ]
        verdicts = [
            _verdict(backend, figure, samples, name)
            for backend in backends
            for samples in [_samples(subjects, backend, pairs, status)]
            for figure in _FIGURES
            for name in (RS256, ES256, TICKET)
        ]
        if can_count():
            status("counting instructions")
            verdicts += _instructions(count(subjects, backends[0]))
    return verdicts


def _verdict(backend: Backend, figure: Figure, samples: Mapping[str, Sequence[Sample]], name: str) -> Verdict:
    ours, open_ = ([sample[figure.name] for sample in samples[it]] for it in (name, OURS))
    over, bar = ratio(ours, open_), figure.target(name)
    return Verdict(
        f"{figure.label}, {backend.name}: {name}",
        f"{median(ours):.1f} to {median(open_):.1f} {figure.unit}: "
        f"{over.median:.2f} ({over.low:.2f} to {over.high:.2f})",
        "" if bar is None else f"{bar:.2f}",
        None if bar is None else over.median <= bar,
    )


def _instructions(counts: Mapping[str, Mapping[str, float]]) -> list[Verdict]:
    return [
        Verdict(
            f"instructions, {figure}: {name}",
            f"{(ours := counts[name][figure]) / 1e6:.1f} M to {of_open / 1e6:.1f} M: {ours / of_open:.3f}",
            "",
            None,
        )
        for figure, of_open in counts[OURS].items()
        for name in (RS256, ES256, TICKET)
    ]


def _subjects(issued: Issued) -> Sequence[Subject]:
    """Return ours as it is, and with each kind of admission."""
    ours = next(it for it in SUBJECTS if it.name == OURS)
    by_token = [
        replace(
            ours,
            name=name,
            environ={**_TOKEN, "TOKEN_ALGORITHM": algorithm},
            headers={"Authorization": f"Bearer {issued.token(algorithm)}"},
        )
        for name, algorithm in ((RS256, "RS256"), (ES256, "ES256"))
    ]
    environ = {"ADMISSION": "ticket", "TICKETS_TABLE": "tickets"}
    ticket = replace(ours, name=TICKET, environ=environ, query={"ticket": "t" * 43})
    return [ours, *by_token, ticket]


def _samples(
    subjects: Sequence[Subject], backend: Backend, pairs: int, status: Callable[[str], None]
) -> Mapping[str, Sequence[Sample]]:
    samples: dict[str, list[Sample]] = {subject.name: [] for subject in subjects}
    for pair in range(pairs + 1):  # the first is discarded
        status(f"{backend.name}: pair {pair} of {pairs}")
        for subject in subjects if pair % 2 else reversed(subjects):
            sample = measure(subject, backend, _CALLS)
            if pair:
                samples[subject.name].append(sample)
    return samples


def _base64(number: int, length: int) -> str:
    return urlsafe_b64encode(number.to_bytes(length)).rstrip(b"=").decode()
