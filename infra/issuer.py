"""A real issuer of tokens on loopback: npm's oauth2-mock-server, over HTTPS.

Its certificate is of a local CA. The package is downloaded into build/, by version
and checksum, and is not in the repository.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trustme

from infra.process import free_port
from infra.stack import LocalStackFailure

_HERE = Path(__file__).parent
_SCRIPT = _HERE / "issuer.mjs"
_BUILD = _HERE.parent / "build"
_OLDEST_NODE = 20
_PACKAGES = {
    "oauth2-mock-server": (
        "9.3.0",
        "sha512-nqdjiAfDSWWWKrLhD7DSCgNUkX35z2+h1oRHEgNdZqFwHXDNZp98RVJ7Cs45u3GPplbazTeGoBsO8SPfv5GOIw==",
    ),
    "basic-auth": (
        "3.1.0",
        "sha512-E87x8DEyyFLN1EeP5p6j8b/g7gynoV+L6G2zLXAoL1CkkXe7HjNU7JIAf4JozCXJgl5SzxREQq/HzSF/MqhPLw==",
    ),
    "jose": (
        "6.2.18",
        "sha512-doV4thUwgkrycJH4yLeqwTGIIZphHl+pk7CPReuMIhYhncmgzdko85MaCG4YQFTxqMFr1/oEH32tZuKKovcDEg==",
    ),
}
"""The version and the integrity of each package, as npm's lock files have them."""


@dataclass(slots=True)
class Issuer:
    """The issuer while it runs.

    ``authorities`` is the file of the CA that its certificate is of. ``issued`` are its
    tokens.
    """

    url: str
    authorities: Path
    _process: "subprocess.Popen[str]"
    issued: list[str] = field(default_factory=list)

    def token(self, expires_in: timedelta, claims: Mapping[str, object]) -> str:
        """Return a new token with *claims*; one that has expired was issued an hour before it did.

        Raises:
            LocalStackFailure: the issuer ended.
        """
        now = datetime.now(UTC)
        expires_at = now + expires_in
        issued_at = min(now, expires_at - timedelta(hours=1)) if expires_in < timedelta() else now
        issued, expires = int(issued_at.timestamp()), int(expires_at.timestamp())
        times = {"iat": issued, "nbf": issued, "exp": expires}
        token: str = _asked(self._process, {"claims": times | dict(claims)})["token"]
        self.issued.append(token)
        return token

    def rotate(self) -> None:
        """Sign with a new key from now on, and publish the old one no more.

        Raises:
            LocalStackFailure: the issuer ended.
        """
        _asked(self._process, {})


@contextmanager
def token_issuer() -> Iterator[Issuer]:
    """Run an issuer during a block; its files are in a temporary folder, which is deleted at the end.

    Raises:
        LocalStackFailure: it could not be downloaded or started.
    """
    node = _node()
    folder = _installed()
    with TemporaryDirectory(prefix="switchboard-issuer-") as name:
        directory = Path(name)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(authorities := directory / "authorities.pem")
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_pem.write_to_path(key := directory / "key.pem")
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(chain := directory / "certificate.pem", append=True)
        script = _SCRIPT.read_text()  # as text: its imports are then looked for in the current folder
        with subprocess.Popen(
            [node, "--input-type=module", "--eval", script, "--", str(free_port()), str(key), str(chain)],
            cwd=folder,
            stdin=subprocess.PIPE,  # closes when this process ends, and ends the issuer
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield Issuer(_answer(process)["url"], authorities, process)
            finally:
                process.kill()


def _node() -> str:
    """Return Node.js.

    Raises:
        LocalStackFailure: it is missing or too old, or npm is missing.
    """
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        raise LocalStackFailure(
            f"The tokens are issued by a package of npm: it needs Node.js {_OLDEST_NODE} or newer, with npm. "
            "`make demo` without --tokens does not."
        )
    version = subprocess.run(
        [node, "--version"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < _OLDEST_NODE:
        raise LocalStackFailure(f"The issuer of the tokens needs Node.js {_OLDEST_NODE}; this is {version}.")
    return node


def _installed() -> Path:
    """Return the folder of the packages, which are downloaded if needed.

    Raises:
        LocalStackFailure: npm failed.
    """
    versions = {name: version for name, (version, _) in _PACKAGES.items()}
    locked = {
        f"node_modules/{name}": {"version": version, "integrity": integrity}
        for name, (version, integrity) in _PACKAGES.items()
    }
    lock = json.dumps({"lockfileVersion": 3, "packages": {"": {"dependencies": versions}} | locked})
    folder = _BUILD / f"issuer-{sha256(lock.encode()).hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    _BUILD.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="issuer-", dir=_BUILD) as name:
        whole = Path(name) / "whole"
        whole.mkdir()
        (whole / "package.json").write_text(json.dumps({"private": True, "dependencies": versions}))
        (whole / "package-lock.json").write_text(lock)
        options = [
            "--engine-strict=false",  # they ask for Node.js 22, and work with 20
            *("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"),
        ]
        try:
            subprocess.run(["npm", "ci", *options], cwd=whole, check=True, stdout=subprocess.DEVNULL)  # noqa: S607
        except subprocess.CalledProcessError as error:
            raise LocalStackFailure("npm could not download the issuer; its reason is above.") from error
        with suppress(OSError):  # another command was first
            whole.rename(folder)
    return folder


def _asked(process: "subprocess.Popen[str]", request: Mapping[str, object]) -> dict[str, Any]:
    assert process.stdin  # noqa: S101 - a pipe was asked for
    with suppress(BrokenPipeError):  # there is no answer either
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
    return _answer(process)


def _answer(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout  # noqa: S101 - as above
    line = process.stdout.readline()
    if not line:
        raise LocalStackFailure("The issuer of the tokens ended; its reason is above.")
    answer: dict[str, Any] = json.loads(line)
    return answer
