"""STORE as an import path: a storage adapter from outside, and the sentences for one that can't be used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.containers.handshakes import Handshakes
from app.containers.operations import Operations
from app.containers.stream import Stream
from app.settings import InvalidSetting, Settings
from tests.builders import a_connect_event, a_handshake
from tests.fakes import RecordingPublisher

ROOT = Path(__file__).parent.parent.parent
ADAPTERS = '''
from app.adapters.memory import MemoryConnectionTable

class Shelf(MemoryConnectionTable):
    """A storage adapter that this project has never heard of."""

class Half:
    def add(self, connection): ...
    remove = None

def shelf(environ):
    if "SHELF" not in environ:
        raise ValueError("SHELF is missing: it names the shelf.")
    return Shelf()

def half(environ):
    return Half()

def broken(environ):
    raise TypeError("a bug")

number = 7
'''


@pytest.fixture(autouse=True)
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package ``acme.storage`` on the path of imports."""
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "storage.py").write_text(ADAPTERS)
    (tmp_path / "acme" / "half_written.py").write_text("import unknown")
    (tmp_path / "acme" / "unset.py").write_text("import os\nos.environ['ACME_SHELVES']")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def handshakes(store: str, **environ: str) -> Handshakes:
    return Handshakes(settings=Settings.from_environ({"STORE": store}), environ=environ)


def operations(store: str, **environ: str) -> Operations:
    settings = Settings.from_environ({"STORE": store})
    return Operations(settings=settings, environ=environ, publisher=RecordingPublisher())


def test_the_factory_makes_the_store_without_any_setting_of_dynamodb() -> None:
    container = handshakes("acme.storage:shelf", SHELF="3")

    assert type(container.store()).__name__ == "Shelf"
    assert container.open_connection()(a_handshake()).connection.id == "c-1"


def test_the_factory_makes_the_table_of_the_operations() -> None:
    container = operations("acme.storage:shelf", SHELF="3")

    assert type(container.table()).__name__ == "Shelf"
    assert container.sweep_connections().table is container.table()


@pytest.mark.parametrize(
    ("store", "sentence"),
    [
        (
            "acme.nothing:s",
            "STORE=acme.nothing:s can't be imported: ModuleNotFoundError: No module named 'acme.nothing'.",
        ),
        (
            "acme.half_written:s",
            "STORE=acme.half_written:s can't be imported: ModuleNotFoundError: No module named 'unknown'.",
        ),
        (
            "acme.unset:shelf",
            "STORE=acme.unset:shelf can't be imported: KeyError: 'ACME_SHELVES'.",
        ),
        ("acme.storage:shelves", "STORE=acme.storage:shelves: acme.storage has no callable shelves."),
        ("acme.storage:number", "STORE=acme.storage:number: acme.storage has no callable number."),
        ("acme.storage:shelf", "STORE=acme.storage:shelf: SHELF is missing: it names the shelf."),
    ],
)
def test_a_factory_that_can_not_be_used_is_reported(store: str, sentence: str) -> None:
    for provider in (handshakes(store).store, operations(store).table):
        with pytest.raises(InvalidSetting) as error:
            provider()
        assert str(error.value) == sentence


def test_missing_methods_are_named_with_who_needs_them() -> None:
    with pytest.raises(InvalidSetting) as error:
        handshakes("acme.storage:half").store()
    assert str(error.value) == (
        "STORE=acme.storage:half: Half lacks remove, tombstone, needed by $connect and $disconnect."
    )

    with pytest.raises(InvalidSetting) as error:
        operations("acme.storage:half").table()
    assert str(error.value) == (
        "STORE=acme.storage:half: Half lacks delete_exact, get, page, scan, "
        "needed by the sweep and the command line."
    )


def test_a_bug_of_the_factory_is_raised_as_it_is() -> None:
    with pytest.raises(TypeError, match="^a bug$"):
        handshakes("acme.storage:broken").store()


def test_presence_is_refused_since_it_follows_dynamodbs_stream() -> None:
    with pytest.raises(InvalidSetting, match="^STORE=acme.storage:shelf has no stream: "):
        Stream(
            settings=Settings.from_environ({"STORE": "acme.storage:shelf"}),
            environ={"SHELF": "3"},
            publisher=RecordingPublisher(),
        ).track_presence()


def test_the_function_starts_with_it_and_the_command_line_reads_it(acme: Path) -> None:
    environ = os.environ | {"STORE": "acme.storage:shelf", "SHELF": "3", "PYTHONPATH": f"{acme}:{ROOT}"}
    code = (
        "import json, sys; from app.entrypoints.aws_lambda import connect;"
        "print(json.dumps(connect(json.load(sys.stdin), None)))"
    )

    answered = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(a_connect_event()),
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    listed = subprocess.run(
        [sys.executable, "-m", "app", "ls"], env=environ, capture_output=True, text=True, check=False
    )

    assert json.loads(answered.stdout) == {"statusCode": 200, "body": "connected"}, answered.stderr
    assert (listed.returncode, listed.stderr) == (0, "Nobody is connected.\n")
