"""The settings: every environment variable with its default, its check, and the reason for its number."""

import re
from collections.abc import Mapping
from datetime import timedelta
from socket import AF_INET6, inet_pton
from typing import NamedTuple, Self

from app.domain.model import LAST_PORT, MAX_ATTRIBUTES, MAX_NAME, ORIGIN, REGION, Network

LONGEST_STORE_CALL = timedelta(seconds=22)
"""The longest allowed store call.

The template's functions stop after 25 s, API Gateway's integration time-out is
29 s; the difference is for a cold start and the answer. After a restore it is for
credentials, too: a call may wait 2 s for them (see container_credentials.py).
"""

LONGEST_SWEEP = timedelta(minutes=3, seconds=30)
"""From a sweep's scheduled time to its last call of the gateway, at most.

The template's function stops after 240 s, and begins nothing in the last 54 s
(RESERVE in app/entrypoints/sweep). A call ends within 10 s; the rest is for a cold
start.
"""
KEPT_ALIVE_WITHIN = timedelta(minutes=9)
"""The longest wait for a keep-alive: API Gateway closes a connection that is idle for 10 minutes.

The tenth is the scheduler's, which starts a sweep at any time within its minute
(EventBridge Scheduler's user guide, 'Schedule types').
"""

STORES = ("dynamodb", "dynamodb-boto3", "memory")
"""Our storage adapters: DynamoDB through our transport or the SDK's, and the process's memory."""
_IMPORT_PATH = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"

# DynamoDB's developer guide, 'Naming rules'; an ARN goes wherever a name does
_QUEUE = r"[A-Za-z0-9_-]{1,80}"  # SQS's developer guide, 'Queue and message identifiers'; no FIFO queue
_BUS = r"[A-Za-z0-9._-]{1,256}"  # EventBridge's API reference, 'CreateEventBus'; no partner's bus
_TABLE = re.compile(r"(?:arn:[a-z-]+:dynamodb:[a-z0-9-]+:[0-9]{12}:table/)?[A-Za-z0-9_.-]{3,255}")
_ENDPOINT = r"https?://(?:[A-Za-z0-9._-]+|\[(?P<ipv6>[0-9A-Fa-f:.]+)])(?::(?P<port>[0-9]{1,5}))?/?"
_PATH = r"[!-~]*"  # of a URL, where anything else is percent-encoded
_DIGITS = r"[0-9]{1,9}"
_MAX_SWEEP_ROUND = timedelta(hours=2)  # through all segments
_PURPOSES = {
    "AWS_REGION": "it names the table's region; Lambda sets it.",
    "CONNECTIONS_TABLE": "it names the DynamoDB table.",
    "PRESENCE_TABLE": "it names the DynamoDB table of who is present.",
    "DELIVERIES_TABLE": "it names the DynamoDB table of what became of each message.",
    "MESSAGE_QUEUE": "it names the queue of messages.",
    "KEYS_TABLE": "it names the DynamoDB table of the issuer's keys.",
    "TICKETS_TABLE": "it names the DynamoDB table of tickets.",
    "HISTORY_TABLE": "it names the DynamoDB table of messages that are kept for clients that come back.",
    "CATCH_UP_QUEUE": "it names the queue of clients that come back.",
}
_PARAMETERS = frozenset({"clientId", "account", "region", "since"})


class InvalidSetting(ValueError):
    """A variable that is missing or malformed; the text is a sentence that names it."""


class StoreTimeouts(NamedTuple):
    """Time-outs and attempts of a store call.

    DynamoDB answers a single-item write in under 10 ms, and a new TLS
    connection takes about 100 ms on a small function. The defaults are ten
    times that, so that they stop what is broken and not what is slow. Three
    attempts are the SDK's default.
    """

    connect: timedelta = timedelta(seconds=1)
    read: timedelta = timedelta(milliseconds=1500)
    attempts: int = 3

    @property
    def longest_call(self) -> timedelta:
        """The longest possible call: every attempt times out, with the longest pauses between them.

        The pauses are the SDK's: its standard mode pauses up to 1, 2, 4 ... 20 s
        after throttling, and up to 5 s more if the service asks for it
        (x-amz-retry-after). The direct transport's are shorter.
        """
        pauses = sum(min(2**retry, 20) + 5 for retry in range(self.attempts - 1))
        return self.attempts * (self.connect + self.read) + timedelta(seconds=pauses)


class SweepSettings(NamedTuple):
    """How the table is swept.

    ``segments``: parts of the table; each run sweeps one, in rotation.
    ``every``: the interval of the runs, as in the template's schedule.
    ``grace``: the age below which a connection is not probed. API Gateway ends
    a pending handshake after 29 s, and until then answers as if it was gone.
    ``rate``: probes per second, a tenth of an account's quota for the
    management API, which messages to clients use, too. ``concurrency``:
    concurrent probes. ``keep_alive``: whether each probe is a frame to the client.
    """

    segments: int = 1
    every: timedelta = timedelta(minutes=5)
    grace: timedelta = timedelta(seconds=30)
    rate: int = 1000
    concurrency: int = 32
    keep_alive: bool = False

    @property
    def longest_wait(self) -> timedelta:
        """The longest time from a connection's handshake or turn to its next turn, if sweeps start on time.

        Within its grace a connection has no turn. Where in a sweep its turn comes
        varies, since not every sweep has the same pace and the same table: at the
        sweep's beginning, and the next time at its end.
        """
        return self.segments * self.every + self.grace + LONGEST_SWEEP


_SWEEP = SweepSettings()


class Settings(NamedTuple):
    """The checked settings.

    The names of tables, queues and the bus and ``region`` are empty if they are not set; an
    adapter that needs one gets it through ``required``. ``connections_per_client`` is
    ``None`` for any number. ``send_rate`` is in messages per second and function: half
    an account's quota for the management API, for one function to leave room for
    handshakes and sweeps. Several share what the account has, and slow down.
    ``index_lag``: after so long an index shows a new connection; DynamoDB promises no
    figure, and its indexes are rarely behind by more than a second.
    ``start``: how Lambda starts the function, ``plain`` or from a ``snapshot``.
    """

    table: str = ""
    region: str = ""
    store: str = "dynamodb"
    lifetime: timedelta = timedelta(hours=24)
    attribute_names: tuple[str, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()
    dynamodb_endpoint: str | None = None
    store_timeouts: StoreTimeouts = StoreTimeouts()
    presence_table: str = ""
    gateway_endpoint: str | None = None
    connections_per_client: int | None = None
    sweep: SweepSettings = _SWEEP
    deliveries_table: str = ""
    message_queue: str = ""
    send_rate: int = 5000
    includes_unscoped: bool = False
    has_client_index: bool = True
    has_account_index: bool = True
    admission: str = "open"
    allowed_origins: tuple[str, ...] = ()
    keys_table: str = ""
    tickets_table: str = ""
    history_table: str = ""
    history_kept_for: timedelta = timedelta(minutes=15)
    catch_up_queue: str = ""
    index_lag: timedelta = timedelta(seconds=5)
    start: str = "plain"
    presence_bus: str = ""

    @property
    def storage(self) -> str:
        """The kind of storage that ``store`` names: ``dynamodb``, ``memory``, or ``imported`` by its path."""
        return self.store.removesuffix("-boto3") if self.store in STORES else "imported"

    @property
    def address_rule(self) -> str:
        """How a client's address is found: ``proxies`` if some are trusted, else ``peer``."""
        return "proxies" if self.trusted_proxies else "peer"

    @property
    def admission_rule(self) -> str:
        """Who may come in: ``open``, ``origin``, ``token``, ``ticket`` or ``token_or_ticket``."""
        if self.admission == "token" and self.tickets_table:
            return "token_or_ticket"
        return "origin" if self.admission == "open" and self.allowed_origins else self.admission

    @property
    def history(self) -> str:
        """Whether messages are kept for clients that come back: ``kept`` or ``none``."""
        return "kept" if self.history_table and self.history_kept_for else "none"

    @property
    def catch_ups(self) -> str:
        """Where clients that come back are put: into a ``queue``, or ``none``."""
        return "queue" if self.catch_up_queue else "none"

    @property
    def events(self) -> str:
        """Where presence goes besides the log: onto a ``bus``, or ``none``."""
        return "bus" if self.presence_bus else "none"

    @property
    def transport(self) -> str:
        """How the handshakes reach DynamoDB: ``direct``, ``boto3``, or ``none`` if they don't."""
        if self.storage != "dynamodb" and self.admission == "open":
            return "none"
        return "boto3" if self.store == "dynamodb-boto3" else "direct"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings. A variable that is absent or empty has its default.

        Raises:
            InvalidSetting: a variable is malformed.
        """
        store = _store(environ)
        return cls(
            store=store,
            table=table_named(environ, "CONNECTIONS_TABLE"),
            region=_region(environ),
            lifetime=timedelta(hours=whole_number(environ, "TTL_HOURS", 24, most=24 * 366)),
            attribute_names=_attribute_names(environ),
            trusted_proxies=_trusted_proxies(environ),
            dynamodb_endpoint=_dynamodb_endpoint(environ, store),
            store_timeouts=_store_timeouts(environ),
            presence_table=table_named(environ, "PRESENCE_TABLE"),
            gateway_endpoint=_gateway_endpoint(environ),
            connections_per_client=_connections_per_client(environ),
            sweep=_sweep(environ),
            deliveries_table=table_named(environ, "DELIVERIES_TABLE"),
            message_queue=_queue_named(environ, "MESSAGE_QUEUE"),
            send_rate=whole_number(environ, "SEND_RATE", 5000, most=100_000),
            includes_unscoped=choice(environ, "UNSCOPED", ("ignore", "include")) == "include",
            has_client_index=choice(environ, "CLIENT_INDEX", ("true", "false")) == "true",
            has_account_index=choice(environ, "ACCOUNT_INDEX", ("true", "false")) == "true",
            admission=choice(environ, "ADMISSION", ("open", "token", "ticket")),
            allowed_origins=_allowed_origins(environ),
            keys_table=table_named(environ, "KEYS_TABLE"),
            tickets_table=table_named(environ, "TICKETS_TABLE"),
            history_table=table_named(environ, "HISTORY_TABLE"),
            history_kept_for=timedelta(
                minutes=whole_number(environ, "HISTORY_MINUTES", 15, least=0, most=24 * 60)
            ),
            catch_up_queue=_queue_named(environ, "CATCH_UP_QUEUE"),
            index_lag=timedelta(seconds=whole_number(environ, "INDEX_LAG_SECONDS", 5, most=30)),
            start=_start(environ, store),
            presence_bus=_presence_bus(environ),
        )


def required(value: str, name: str) -> str:
    """Return *value*, that of the variable *name*.

    Raises:
        InvalidSetting: it is empty.
    """
    if not value:
        raise InvalidSetting(f"{name} is missing: {_PURPOSES[name]}")
    return value


def _store(environ: Mapping[str, str]) -> str:
    store = environ.get("STORE") or STORES[0]
    if store not in STORES and not re.fullmatch(_IMPORT_PATH, store, re.ASCII):
        raise InvalidSetting(
            f"STORE must be one of: {', '.join(STORES)}, or an import path such as package.module:factory."
        )
    return store


def _start(environ: Mapping[str, str], store: str) -> str:
    if environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
        return "plain"
    if store == "dynamodb-boto3":
        raise InvalidSetting(
            "STORE=dynamodb-boto3 does not work where AWS_LAMBDA_INITIALIZATION_TYPE is snap-start: "
            "every restore would have the credentials and the random numbers of the snapshot."
        )
    return "snapshot"


def table_named(environ: Mapping[str, str], name: str) -> str:
    """Return the table that the variable *name* names; empty if it is not set.

    Raises:
        InvalidSetting: no table can have that name.
    """
    table = environ.get(name, "")
    if table and not _TABLE.fullmatch(table):
        raise InvalidSetting(f"{name} must be the name or the ARN of a DynamoDB table.")
    return table


def _queue_named(environ: Mapping[str, str], variable: str) -> str:
    name = environ.get(variable, "")
    if name and not re.fullmatch(_QUEUE, name):
        raise InvalidSetting(f"{variable} must be the name of an SQS queue.")
    return name


def _presence_bus(environ: Mapping[str, str]) -> str:
    name = environ.get("PRESENCE_BUS", "")
    if name and not re.fullmatch(_BUS, name):
        raise InvalidSetting(
            "PRESENCE_BUS must be the name of an EventBridge bus of this account and region."
        )
    return name


def _connections_per_client(environ: Mapping[str, str]) -> int | None:
    most = whole_number(environ, "CONNECTIONS_PER_CLIENT", 0, most=1000) or None
    if choice(environ, "DUPLICATES", ("keep", "replace")) == "keep":  # the setting's form for 1, from before
        return most
    if most not in (None, 1):
        raise InvalidSetting("DUPLICATES=replace is CONNECTIONS_PER_CLIENT=1: set only the latter.")
    return 1


def _allowed_origins(environ: Mapping[str, str]) -> tuple[str, ...]:
    origins = tuple(listed(environ, "ALLOWED_ORIGINS"))
    for origin in origins:
        match = re.fullmatch(ORIGIN, origin.lower()) if origin.isascii() else None
        if match is None or match[1] not in {"http", "https"} or not 0 < int(match[5] or 1) <= LAST_PORT:
            raise InvalidSetting(
                "ALLOWED_ORIGINS must be origins like https://app.example.com or https://*.example.com, "
                f"separated by commas; {origin!r} is none."
            )
    return origins


def _region(environ: Mapping[str, str]) -> str:
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
    if region and not REGION.fullmatch(region):
        raise InvalidSetting("AWS_REGION must be the name of an AWS region.")
    return region


def _attribute_names(environ: Mapping[str, str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(listed(environ, "CLIENT_ATTRIBUTES")))
    if any(not name.isprintable() or len(name) > MAX_NAME for name in names):
        raise InvalidSetting(f"CLIENT_ATTRIBUTES must be names of at most {MAX_NAME} printable characters.")
    if len(names) > MAX_ATTRIBUTES:
        raise InvalidSetting(f"CLIENT_ATTRIBUTES must name at most {MAX_ATTRIBUTES} parameters.")
    if taken := _PARAMETERS.intersection(names):
        raise InvalidSetting(f"CLIENT_ATTRIBUTES must not name {min(taken)}: it has an attribute of its own.")
    return names


def _trusted_proxies(environ: Mapping[str, str]) -> tuple[Network, ...]:
    proxies = listed(environ, "TRUSTED_PROXIES")
    return tuple(_network(proxy) for proxy in proxies)


def _network(cidr: str) -> Network:
    from ipaddress import IPv6Network, ip_network  # noqa: PLC0415 - 1 ms of a start, and few trust a proxy

    try:
        network = ip_network(cidr)
        if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
            raise ValueError  # noqa: TRY301 - addresses are compared as IPv4, so it would never match
    except ValueError:
        raise InvalidSetting(
            "TRUSTED_PROXIES must be networks like 10.0.0.0/8 or 2001:db8::/32, "
            f"separated by commas; {cidr!r} is none."
        ) from None
    return Network(network.network_address.packed, network.prefixlen)


def _dynamodb_endpoint(environ: Mapping[str, str], store: str) -> str | None:
    for name in ("AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"):  # the SDK's own variables, in its order
        if endpoint := environ.get(name):
            return _endpoint(name, endpoint)
    if store == "dynamodb":
        for name in ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"):
            if environ.get(name, "").lower() == "true":
                raise InvalidSetting(
                    f"{name} needs STORE=dynamodb-boto3, or the endpoint in AWS_ENDPOINT_URL_DYNAMODB."
                )
    return None


def _endpoint(name: str, value: str) -> str:
    match = re.fullmatch(_ENDPOINT, value)
    if (
        match is None
        or not 0 < int(match["port"] or 1) <= LAST_PORT
        or (match["ipv6"] and not _is_ipv6(match["ipv6"]))
    ):
        raise InvalidSetting(f"{name} must be an http or https URL of a host, and a port if need be.")
    return value


def _is_ipv6(address: str) -> bool:
    try:
        inet_pton(AF_INET6, address)
    except OSError:
        return False
    return True


def _gateway_endpoint(environ: Mapping[str, str]) -> str | None:
    """Return the URL of the management API; it may have a path, as the API's stages do."""
    for name in ("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", "AWS_ENDPOINT_URL"):  # the SDK's, in its order
        if endpoint := environ.get(name):
            scheme, _, rest = endpoint.partition("://")
            host, _, path = rest.partition("/")
            _endpoint(name, f"{scheme}://{host}")
            if not re.fullmatch(_PATH, path):
                raise InvalidSetting(f"{name} must have a path of ASCII characters without spaces.")
            return endpoint
    return None


def _sweep(environ: Mapping[str, str]) -> SweepSettings:
    default = _SWEEP
    minute, second = timedelta(minutes=1), timedelta(seconds=1)
    sweep = SweepSettings(
        segments=whole_number(environ, "SWEEP_SEGMENTS", default.segments, most=120),
        every=whole_number(environ, "SWEEP_EVERY_MINUTES", default.every // minute, most=120) * minute,
        grace=whole_number(environ, "SWEEP_GRACE_SECONDS", default.grace // second, most=3600) * second,
        rate=whole_number(environ, "SWEEP_RATE", default.rate, most=10_000),
        concurrency=whole_number(environ, "SWEEP_CONCURRENCY", default.concurrency, most=256),
        keep_alive=choice(environ, "KEEP_ALIVE", ("false", "true")) == "true",
    )
    if sweep.segments * sweep.every > _MAX_SWEEP_ROUND:
        raise InvalidSetting(
            "SWEEP_SEGMENTS times SWEEP_EVERY_MINUTES must be at most 120: "
            "no connection lasts longer, so a later probe finds nothing."
        )
    if sweep.keep_alive and sweep.longest_wait > KEPT_ALIVE_WITHIN:
        raise InvalidSetting(
            "SWEEP_SEGMENTS, SWEEP_EVERY_MINUTES and SWEEP_GRACE_SECONDS let a connection wait for "
            f"{sweep.longest_wait / minute:g} minutes; with KEEP_ALIVE=true it may be "
            f"{KEPT_ALIVE_WITHIN / minute:g}, since API Gateway closes one that is idle for 10."
        )
    return sweep


def _store_timeouts(environ: Mapping[str, str]) -> StoreTimeouts:
    default = StoreTimeouts()
    timeouts = StoreTimeouts(
        connect=_milliseconds(environ, "STORE_CONNECT_TIMEOUT_MS", default.connect),
        read=_milliseconds(environ, "STORE_READ_TIMEOUT_MS", default.read),
        attempts=whole_number(environ, "STORE_ATTEMPTS", default.attempts, most=10),
    )
    if timeouts.longest_call > LONGEST_STORE_CALL:
        raise InvalidSetting(
            "STORE_CONNECT_TIMEOUT_MS, STORE_READ_TIMEOUT_MS and STORE_ATTEMPTS allow a call of "
            f"{timeouts.longest_call.total_seconds():g} s; "
            f"it must end within {LONGEST_STORE_CALL.total_seconds():g} s."
        )
    return timeouts


def choice(environ: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """Return the variable's value, by default the first of *choices*.

    Raises:
        InvalidSetting: it is none of them.
    """
    value = environ.get(name) or choices[0]
    if value not in choices:
        raise InvalidSetting(f"{name} must be {' or '.join(choices)}.")
    return value


def _milliseconds(environ: Mapping[str, str], name: str, default: timedelta) -> timedelta:
    millisecond = timedelta(milliseconds=1)
    return whole_number(environ, name, default // millisecond, most=60_000) * millisecond


def whole_number(environ: Mapping[str, str], name: str, default: int, *, least: int = 1, most: int) -> int:
    """Return the variable's value, from *least* to *most*.

    Raises:
        InvalidSetting: it is no such number.
    """
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not (re.fullmatch(_DIGITS, text) and least <= int(text) <= most):
        raise InvalidSetting(f"{name} must be a whole number from {least} to {most}.")
    return int(text)


def listed(environ: Mapping[str, str], name: str) -> list[str]:
    """Return the values in the variable, which commas separate."""
    return [part for item in environ.get(name, "").split(",") if (part := item.strip())]
