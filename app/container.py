"""The composition root: the one place that picks adapters and knows the injector."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dependency_injector import containers, providers

from app.adapters.clock import SystemClock
from app.adapters.ip import PeerFirstIpResolver, TrustedProxyIpResolver
from app.domain.ports import (
    Clock,
    ConnectionRegistry,
    ConnectionStore,
    Gateway,
    IpResolver,
    PresenceStore,
)
from app.domain.use_cases import CloseConnection, OpenConnection
from app.settings import InvalidSetting, Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from app.domain.listing import GetConnection, HangUp, ListConnections
    from app.domain.presence import FollowChanges
    from app.domain.sweep import SweepConnections
    from app.domain.upkeep import Entry


def _ip_resolver(settings: Settings) -> IpResolver:
    if settings.trusted_proxies:
        return TrustedProxyIpResolver(settings.trusted_proxies)
    return PeerFirstIpResolver()


# Each adapter is imported where it is picked: an SDK that is not used costs no start.


def _memory(_: Settings) -> ConnectionRegistry:
    from app.adapters.memory import MemoryConnectionStore  # noqa: PLC0415

    return MemoryConnectionStore()


def _direct(settings: Settings) -> ConnectionStore:
    from app.adapters.dynamodb_direct import direct_store  # noqa: PLC0415

    return direct_store(
        table=settings.table,
        region=settings.region,
        endpoint=settings.dynamodb_endpoint,
        connect_timeout=settings.store_timeouts.connect,
        read_timeout=settings.store_timeouts.read,
        attempts=settings.store_timeouts.attempts,
    )


def _boto3(settings: Settings) -> ConnectionRegistry:
    from app.adapters.dynamodb import DynamoDBConnectionRegistry  # noqa: PLC0415

    return DynamoDBConnectionRegistry(_dynamodb_client(settings), settings.table)


def _dynamodb_client(settings: Settings) -> "DynamoDBClient":
    from app.adapters.dynamodb import dynamodb_client  # noqa: PLC0415

    return dynamodb_client(
        region=settings.region,
        endpoint=settings.dynamodb_endpoint,
        connect_timeout=settings.store_timeouts.connect,
        read_timeout=settings.store_timeouts.read,
        attempts=settings.store_timeouts.attempts,
        connections=settings.sweep.concurrency,
    )


# A store that knows the list as a whole is named here, once; one that is for handshakes alone below.
_REGISTRIES: dict[str, Callable[[Settings], ConnectionRegistry]] = {
    "dynamodb": _boto3,
    "dynamodb-boto3": _boto3,
    "memory": _memory,
}
_STORES: dict[str, Callable[[Settings], ConnectionStore]] = {
    "dynamodb": _direct,
}


def _registry(settings: Settings) -> ConnectionRegistry:
    if settings.store not in _REGISTRIES:
        raise InvalidSetting(f"STORE must be one of: {', '.join(_REGISTRIES)}.")
    return _REGISTRIES[settings.store](settings)


def _store(settings: Settings, registry: Callable[[], ConnectionRegistry]) -> ConnectionStore:
    return _STORES[settings.store](settings) if settings.store in _STORES else registry()


# What no handshake waits for is imported where it is built, too: its words are many.


def _gateway(settings: Settings) -> Gateway:
    from app.adapters.gateway import ManagementApiGateway  # noqa: PLC0415

    return ManagementApiGateway(
        region=settings.region,
        endpoint=settings.gateway_endpoint,
        connections=settings.sweep.concurrency,
    )


def _presence(settings: Settings, clock: Clock) -> PresenceStore:
    if settings.store == "memory":
        from app.adapters.memory_presence import MemoryPresenceStore  # noqa: PLC0415

        return MemoryPresenceStore()
    if not settings.presence_table:
        raise InvalidSetting("PRESENCE_TABLE is missing: it names the DynamoDB table of who is present.")
    from app.adapters.dynamodb import DynamoDBPresenceStore  # noqa: PLC0415

    return DynamoDBPresenceStore(_dynamodb_client(settings), settings.presence_table, clock=clock)


def _sweep_connections(
    settings: Settings, registry: ConnectionRegistry, gateway: Gateway, clock: Clock
) -> "SweepConnections":
    from app.adapters.pace import SteadyPace  # noqa: PLC0415
    from app.domain.sweep import SweepConnections  # noqa: PLC0415

    return SweepConnections(
        registry,
        gateway,
        clock,
        grace=settings.sweep.grace,
        concurrency=settings.sweep.concurrency,
        pace=SteadyPace(settings.sweep.rate),
    )


def _follow_changes(
    settings: Settings,
    registry: ConnectionRegistry,
    presence: PresenceStore,
    gateway: Gateway,
    clock: Clock,
) -> "FollowChanges":
    from app.domain.presence import FollowChanges  # noqa: PLC0415

    return FollowChanges(
        registry,
        presence,
        gateway,
        clock,
        grace=settings.sweep.grace,
        replaces_duplicates=settings.replaces_duplicates,
        concurrency=settings.sweep.concurrency,
    )


def _read_image() -> "Callable[[Mapping[str, Any]], Entry]":
    from app.adapters.dynamodb import entry_in  # noqa: PLC0415

    return entry_in


def _list_connections(registry: ConnectionRegistry, clock: Clock) -> "ListConnections":
    from app.domain.listing import ListConnections  # noqa: PLC0415

    return ListConnections(registry, clock)


def _get_connection(registry: ConnectionRegistry, clock: Clock) -> "GetConnection":
    from app.domain.listing import GetConnection  # noqa: PLC0415

    return GetConnection(registry, clock)


def _hang_up(settings: Settings, registry: ConnectionRegistry, gateway: Gateway, clock: Clock) -> "HangUp":
    from app.domain.listing import HangUp  # noqa: PLC0415

    return HangUp(registry, gateway, clock, grace=settings.sweep.grace)


class Container(containers.DeclarativeContainer):
    """Everything that the entrypoints ask for, built once each.

    Give another part by its name, as in ``Container(settings=..., clock=a_clock)``.
    """

    settings = providers.Dependency(instance_of=Settings)
    clock: providers.Provider[Clock] = providers.Singleton(SystemClock)
    ip_resolver: providers.Provider[IpResolver] = providers.Singleton(_ip_resolver, settings)
    registry: providers.Provider[ConnectionRegistry] = providers.Singleton(_registry, settings)
    store: providers.Provider[ConnectionStore] = providers.Singleton(_store, settings, registry.provider)

    open_connection = providers.Singleton(
        OpenConnection,
        clock=clock,
        ip_resolver=ip_resolver,
        store=store,
        lifetime=settings.provided.lifetime,
        attribute_names=settings.provided.attribute_names,
    )
    close_connection = providers.Singleton(CloseConnection, clock=clock, store=store)

    gateway: providers.Provider[Gateway] = providers.Singleton(_gateway, settings)
    presence: providers.Provider[PresenceStore] = providers.Singleton(_presence, settings, clock)
    sweep_connections = providers.Singleton(_sweep_connections, settings, registry, gateway, clock)
    follow_changes = providers.Singleton(_follow_changes, settings, registry, presence, gateway, clock)
    read_image = providers.Callable(_read_image)
    list_connections = providers.Singleton(_list_connections, registry, clock)
    get_connection = providers.Singleton(_get_connection, registry, clock)
    hang_up = providers.Singleton(_hang_up, settings, registry, gateway, clock)
