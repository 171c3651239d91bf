"""The compiled form of a container composes the same objects, and follows each change of the container."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest
from botocore.client import BaseClient
from dependency_injector import providers
from mypy import api as mypy

import app.containers
from app.containers import compose_handshakes
from app.containers.compile import compile_container
from app.containers.handshakes import Handshakes
from app.settings import InvalidSetting, Settings
from tests.compiled import ROOT, compiled_handshakes, formatted
from tests.parts import REFUSALS, Kind, NotCompilable, Part, Shared, WithADefault
from tests.tokens import TICKETS, TOKENS

ENVIRON = {
    "CONNECTIONS_TABLE": "Connections",
    "AWS_REGION": "ap-northeast-2",
    "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:9",  # no server listens there
}
SNAP_START = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
CHOICES = [
    {},
    {"AWS_ENDPOINT_URL_DYNAMODB": "https://127.0.0.1:9", "STORE_ATTEMPTS": "2"},
    {"TRUSTED_PROXIES": "10.0.0.0/8,2001:db8::/32"},
    {"TTL_HOURS": "3", "CLIENT_ATTRIBUTES": "appVersion", "STORE_READ_TIMEOUT_MS": "700"},
    {"ALLOWED_ORIGINS": "https://app.example.com,https://*.example.com"},
    TICKETS,
    TOKENS,
    {**TOKENS, **TICKETS, "ADMISSION": "token", "TOKEN_ALGORITHM": "ES256", "UNSCOPED": "include"},
    SNAP_START,
    {**TOKENS, **SNAP_START},
]
STORES = ["dynamodb", "dynamodb-boto3", "memory", "tests.wrong_adapters:Right"]


@pytest.fixture(scope="module")
def compose_compiled() -> Callable[[Settings], tuple[object, ...]]:
    return composed(compiled_handshakes())


def composed(source: str) -> Callable[..., tuple[object, ...]]:
    module = ModuleType("compiled")
    exec(compile(source, "compiled.py", "exec"), vars(module))  # noqa: S102 - our own
    compose: Callable[..., tuple[object, ...]] = module.compose
    return compose


def composed_by_the_container(settings: Settings) -> tuple[object, ...]:
    container = Handshakes(settings=settings)
    return container.open_connection(), container.close_connection()


# ---- The same objects


class Graph:
    """The objects that can be reached from some: their types, their values, and which ones are the same."""

    def __init__(self, *roots: object) -> None:
        self._numbers: dict[int, int] = {}
        self._kept: list[object] = []  # so that no id is reused
        self.nodes = list(self._walk("", roots))

    def _walk(self, path: str, value: object) -> Iterator[tuple[str, str, object]]:
        kind = (
            f"{type(value).__module__}.{type(value).__qualname__}"  # botocore makes a class for each client
        )
        if isinstance(value, str | int | float | bytes | timedelta | None):
            yield path, kind, value
            return
        number = self._numbers.setdefault(id(value), len(self._numbers))
        yield path, kind, getattr(value, "__qualname__", number)
        if number < len(self._kept):
            return
        self._kept.append(value)
        for name, attribute in attributes(value):
            yield from self._walk(f"{path}.{name}", attribute)


def attributes(value: object) -> Iterator[tuple[object, object]]:
    """Yield what *value* holds: a collection, an object of ours, a client of DynamoDB."""
    if isinstance(value, Mapping):
        yield from sorted(value.items())
    elif isinstance(value, tuple | list):
        yield from enumerate(value)
    elif isinstance(value, partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, BaseClient):
        yield from (("endpoint", value.meta.endpoint_url), ("region", value.meta.region_name))
        yield "config", vars(value.meta.config)["_user_provided_options"]
    elif type(value).__module__.startswith(("app.", "tests.")):
        names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        yield from sorted(getattr(value, "__dict__", {}).items())
        yield from ((name, getattr(value, name)) for name in names if hasattr(value, name))


@pytest.mark.parametrize(
    ("store", "choice"),
    [
        pytest.param(store, choice, id=f"{store}-{','.join(choice) or 'defaults'}")
        for store, choice in product(STORES, CHOICES)
        if store != "dynamodb-boto3" or SNAP_START.keys().isdisjoint(choice)  # no setting allows both
    ],
)
def test_the_objects_are_the_same(
    compose_compiled: Callable[[Settings], tuple[object, ...]],
    store: str,
    choice: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in choice.items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_environ({**ENVIRON, **choice, "STORE": store})

    expected = Graph(*composed_by_the_container(settings)).nodes

    paths = {path for path, *_ in expected}
    assert {".0._store", ".1._store", ".0._ip_resolver", ".0._admission"} < paths
    assert (".0._admission._tokens._signatures._find_key._store._transport" in paths) == (
        "KEYS_TABLE" in choice
    )
    assert (".0._admission._tickets._transport" in paths) == ("TICKETS_TABLE" in choice)
    assert Graph(*compose_compiled(settings)).nodes == expected


@pytest.mark.parametrize(
    "missing", [["CONNECTIONS_TABLE"], ["AWS_REGION"], ["CONNECTIONS_TABLE", "AWS_REGION"]]
)
@pytest.mark.parametrize("store", STORES[:2])
def test_a_missing_setting_is_the_same_error(
    compose_compiled: Callable[[Settings], tuple[object, ...]], store: str, missing: list[str]
) -> None:
    settings = Settings.from_environ({**ENVIRON, "STORE": store, **dict.fromkeys(missing, "")})

    with pytest.raises(InvalidSetting) as expected:
        composed_by_the_container(settings)
    with pytest.raises(InvalidSetting) as error:
        compose_compiled(settings)

    assert str(error.value) == str(expected.value)


@pytest.mark.parametrize(
    "choice",
    [
        TOKENS | {"TOKEN_ISSUER": ""},
        TOKENS | {"TOKEN_AUDIENCE": ""},
        TOKENS | {"TOKEN_TYPE": "any"},
        TOKENS | {"KEYS_TABLE": ""},
        TOKENS | {"KEYS_TABLE": "", "TOKEN_ISSUER": ""},
        TICKETS | {"TICKETS_TABLE": ""},
        TICKETS | {"STORE": "memory", "AWS_REGION": ""},
        TICKETS | {"TICKETS_TABLE": "", "CONNECTIONS_TABLE": ""},
    ],
    ids=lambda choice: ",".join(name for name in choice if choice[name] != TOKENS.get(name)),
)
def test_an_incomplete_setting_of_who_may_come_in_is_the_same_error(
    compose_compiled: Callable[[Settings], tuple[object, ...]],
    choice: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in choice.items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_environ({**ENVIRON, **choice})

    with pytest.raises(InvalidSetting) as expected:
        composed_by_the_container(settings)
    with pytest.raises(InvalidSetting) as error:
        compose_compiled(settings)

    assert str(error.value) == str(expected.value)


def test_a_graph_tells_shared_objects_from_equal_ones() -> None:
    part = Part()
    assert Graph(Part(part, part)).nodes != Graph(Part(Part(), Part())).nodes
    assert Graph(Part(part, part)).nodes == Graph(Part(part, part)).nodes


@pytest.mark.parametrize("name", ["large", "small", "same"])
def test_each_kind_of_provider_has_a_compiled_form(name: str) -> None:
    compose = composed(compile_container(Shared, "one", "other"))
    built = Shared(kind=(kind := Kind(name, size=7)))

    assert Graph(*compose(kind)).nodes == Graph(built.one(), built.other()).nodes


def test_a_key_may_have_quotes_and_braces() -> None:
    (one,) = composed(compile_container(Shared, "one"))(Kind(key := "a 'quoted' {one}"))

    assert isinstance(one, Part)
    assert isinstance(chosen := one.arguments[1], Part)
    assert chosen.arguments == (key,)


def test_a_selection_of_something_else_is_an_error() -> None:
    compose = composed(compile_container(Shared, "one"))

    with pytest.raises(LookupError, match=r"^chosen has no medium\.$"):
        compose(Kind("medium"))


# ---- The source


def test_the_source_follows_a_change_of_the_container() -> None:
    source = (ROOT / "app" / "containers" / "handshakes.py").read_text()
    module = ModuleType("changed")
    with_another_clock = source.replace("Admission.clock", "providers.Singleton(FixedClock)")
    exec(f"from tests.fakes import FixedClock\n{with_another_clock}", vars(module))  # noqa: S102 - our own
    settings = Settings.from_environ(ENVIRON)
    changed = module.Handshakes(settings=settings)

    compose = composed(
        compile_container(module.Handshakes, "open_connection", "close_connection", first=("transport",))
    )

    expected = Graph(changed.open_connection(), changed.close_connection()).nodes
    assert Graph(*compose(settings)).nodes == expected
    assert expected != Graph(*composed_by_the_container(settings)).nodes


def test_the_source_names_its_container_and_leaves_out_the_injector() -> None:
    source = compiled_handshakes()

    assert source.startswith('"""Handshakes of app.containers.handshakes, compiled."""\n')
    assert "dependency_injector" not in source
    assert "app.containers.handshakes import" not in source


def test_what_is_built_first_is_not_returned() -> None:
    source = compile_container(Shared, "one", first=("base", "chosen"))
    (one,) = composed(source)(kind := Kind("large"))

    assert Graph(one).nodes == Graph(Shared(kind=kind).one()).nodes
    assert source.index("base = ") < source.index("chosen = ") < source.index("one = ")


def test_without_the_transport_first_each_use_of_it_would_build_one() -> None:
    with pytest.raises(ValueError, match="would be built twice: let something before need it"):
        compile_container(Handshakes, "open_connection", "close_connection")


@pytest.mark.xdist_group("mypy")  # two at once can't create its cache: "database is locked"
def test_the_source_passes_the_type_check(tmp_path: Path) -> None:
    file = tmp_path / "compiled.py"
    file.write_text(compiled_handshakes())
    assert formatted(file.read_text()) == file.read_text()

    output, _, status = mypy.run(["--config-file", str(ROOT / "pyproject.toml"), "--strict", str(file)])

    assert status == 0, output


@pytest.mark.parametrize(("name", "sentence"), REFUSALS.items(), ids=REFUSALS)
def test_what_has_no_compiled_form_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        compile_container(NotCompilable, name)


def test_a_default_is_refused() -> None:
    with pytest.raises(ValueError, match="Dependency"):
        compile_container(WithADefault, "part")


def test_each_refusal_is_tested() -> None:
    assert {name for name in NotCompilable.providers if name.startswith("of_")} == REFUSALS.keys()


@pytest.mark.parametrize("name", ["settings", "clock"])
def test_an_override_of_the_container_is_refused(name: str) -> None:
    with (
        getattr(Handshakes, name).override(providers.Object(None)),
        pytest.raises(ValueError, match=rf"^{name} is overridden\.$"),
    ):
        compiled_handshakes()


# ---- What a start imports


@pytest.fixture(scope="module")
def imported_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., set[str]]:
    """Returns the modules that the handshake functions import, in the image's form."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "compiled.py").write_text(compiled_handshakes())
    start = (
        f"import sys, app.containers; app.containers.__path__.append({str(folder)!r})\n"
        "import app.entrypoints.aws_lambda; print(*sys.modules)"
    )

    def run(environ: Mapping[str, str]) -> set[str]:
        result = subprocess.run(
            [sys.executable, "-c", start],
            cwd=ROOT,
            env={**ENVIRON, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", **environ},
            capture_output=True,
            text=True,
            check=True,
        )
        return set(result.stdout.split())

    return run


OF_ADMISSION = {"app.domain.admission", "app.domain.admitting"}
OF_TICKETS = {"app.adapters.dynamodb.tickets"} | OF_ADMISSION
OF_TOKENS = {
    "app.adapters.dynamodb.keys",
    "app.adapters.tokens.encoding",
    "app.adapters.tokens.keys",
    "app.adapters.tokens.rs256",
    "app.adapters.tokens.signatures",
    "app.domain.keys",
    "app.domain.tokens",
    "app.settings.tokens",
    "cryptography",
} | OF_ADMISSION
NEVER = {
    "app.adapters.tokens.es256",  # of another setting
    "app.adapters.tokens.issuer",
    "app.containers.handshakes",
    "app.containers.imports",
    "app.containers.snapstart",
    "app.domain.ports",
    "asyncio",
    "boto3",
    "botocore",
    "dataclasses",
    "dependency_injector",
    "inspect",
    "ipaddress",
    "pycurl",
    "secrets",
    "urllib.request",
}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, set()),
        ({**TOKENS, **TICKETS, "ADMISSION": "open"}, set()),
        ({"ALLOWED_ORIGINS": "https://app.example.com"}, OF_ADMISSION),
        (TICKETS, OF_TICKETS),
        (TOKENS, OF_TOKENS),
    ],
    ids=["open", "open, with the other settings", "origins", "tickets", "tokens"],
)
def test_a_start_imports_what_its_settings_need(
    imported_with: Callable[..., set[str]], environ: Mapping[str, str], wanted: set[str]
) -> None:
    imported = imported_with(environ)

    assert "app.containers.compiled" in imported
    assert imported & (OF_TICKETS | OF_TOKENS) == wanted
    assert imported & NEVER == set()


# ---- Which form is used


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A further folder of the package app.containers."""
    monkeypatch.setattr(app.containers, "__path__", [*app.containers.__path__, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("app.containers.compiled", None)


def test_without_a_compiled_form_the_container_composes() -> None:
    settings = Settings.from_environ({"STORE": "memory"})

    assert Graph(*compose_handshakes(settings)).nodes == Graph(*composed_by_the_container(settings)).nodes


def test_the_compiled_form_composes_where_it_is(folder: Path) -> None:
    (folder / "compiled.py").write_text("def compose(settings): return settings, 'compiled'")

    assert list(compose_handshakes(Settings())) == [Settings(), "compiled"]


def test_an_error_of_the_compiled_form_is_not_hidden(folder: Path) -> None:
    (folder / "compiled.py").write_text("import no_such_module")

    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        compose_handshakes(Settings())


def test_the_checkout_has_no_compiled_form_that_could_be_stale() -> None:
    assert not (ROOT / "app" / "containers" / "compiled.py").exists()
