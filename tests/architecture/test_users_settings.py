"""The tests do not depend on the user's environment and files."""

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.environment import USERS
from tests.serving import serving
from tests.thoroughness import REPEATABLE

ROOT = Path(__file__).parent.parent.parent

TESTS_THAT_SIGN_OR_CONNECT = ("tests/integration/test_gateway.py", "tests/contract/test_presence_store.py")


def test_no_setting_of_the_user_reaches_a_test(tmp_path: Path) -> None:
    requests: list[str] = []

    class UsersServer(BaseHTTPRequestHandler):
        """The endpoint and the proxy in the user's settings: no test may call it."""

        def handle(self) -> None:
            requests.append(self.rfile.readline().decode())

    with serving(UsersServer) as url:
        pytest_quietly = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *REPEATABLE)
        result = subprocess.run(
            [*pytest_quietly, *TESTS_THAT_SIGN_OR_CONNECT],
            cwd=ROOT,
            env=USERS | _users_settings(tmp_path, url),
            capture_output=True,
            text=True,
            check=False,
        )

    assert (result.returncode, requests) == (0, []), result.stdout


def _users_settings(home: Path, url: str) -> dict[str, str]:
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text(f"[default]\nregion = us-west-2\nendpoint_url = {url}\n")
    keys = "aws_access_key_id = AKIAUSERS\naws_secret_access_key = users\n"
    (home / ".aws" / "credentials").write_text(f"[default]\n{keys}")
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"), url)
    return proxies | {
        "HOME": str(home),
        "AWS_PROFILE": "not-there",
        "AWS_ACCESS_KEY_ID": "AKIAUSERS",
        "AWS_SECRET_ACCESS_KEY": "users",
        "AWS_SESSION_TOKEN": "users",
        "AWS_REGION": "us-west-2",
        "AWS_DEFAULTS_MODE": "no-such-mode",
        "AWS_ENDPOINT_URL": url,
        "AWS_CA_BUNDLE": os.devnull,
        "CONNECTIONS_TABLE": "Users",
        "STORE": "memory",
        "DUPLICATES": "neither",
        "ADMISSION": "nobody",
        "ALLOWED_ORIGINS": "nowhere",
        "TOKEN_ISSUER": "http://users.invalid",
        "TICKETS_TABLE": "a/b",
        "NO_COLOR": "1",
        "COLUMNS": "20",
        "LANG": "C",
        "LC_ALL": "C",
        "PATH": "/nonexistent",  # no Java, so that no database starts
        "DOCKER_HOST": "unix:///nonexistent",
        "REQUIRE_LANES": "",
        "PYTEST_ADDOPTS": "",
    }
