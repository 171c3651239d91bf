"""The composition root: the one place that picks adapters and knows the injector."""

from collections.abc import Callable

from dependency_injector import containers, providers

from app.adapters.clock import SystemClock
from app.adapters.ip import PeerFirstIpResolver, TrustedProxyIpResolver
from app.domain.ports import Clock, ConnectionStore, IpResolver
from app.domain.use_cases import CloseConnection, OpenConnection
from app.settings import InvalidSetting, Settings


def _ip_resolver(settings: Settings) -> IpResolver:
    if settings.trusted_proxies:
        return TrustedProxyIpResolver(settings.trusted_proxies)
    return PeerFirstIpResolver()


# Each adapter is imported where it is picked: an SDK that is not used costs no start.


def _memory(_: Settings) -> ConnectionStore:
    from app.adapters.memory import MemoryConnectionStore  # noqa: PLC0415

    return MemoryConnectionStore()


def _dynamodb(settings: Settings) -> ConnectionStore:
    from app.adapters.dynamodb_direct import direct_store  # noqa: PLC0415

    return direct_store(
        table=settings.table,
        region=settings.region,
        endpoint=settings.dynamodb_endpoint,
        connect_timeout=settings.store_timeouts.connect,
        read_timeout=settings.store_timeouts.read,
        attempts=settings.store_timeouts.attempts,
    )


def _dynamodb_boto3(settings: Settings) -> ConnectionStore:
    from app.adapters.dynamodb import DynamoDBConnectionStore, dynamodb_client  # noqa: PLC0415

    client = dynamodb_client(
        region=settings.region,
        endpoint=settings.dynamodb_endpoint,
        connect_timeout=settings.store_timeouts.connect,
        read_timeout=settings.store_timeouts.read,
        attempts=settings.store_timeouts.attempts,
    )
    return DynamoDBConnectionStore(client, settings.table)


_STORES: dict[str, Callable[[Settings], ConnectionStore]] = {
    "dynamodb": _dynamodb,
    "dynamodb-boto3": _dynamodb_boto3,
    "memory": _memory,
}


def _store(settings: Settings) -> ConnectionStore:
    if settings.store not in _STORES:
        raise InvalidSetting(f"STORE must be one of: {', '.join(_STORES)}.")
    return _STORES[settings.store](settings)


class Container(containers.DeclarativeContainer):
    """Everything that the entrypoints ask for, built once each.

    Give another part by its name, as in ``Container(settings=..., clock=a_clock)``.
    """

    settings = providers.Dependency(instance_of=Settings)
    clock: providers.Provider[Clock] = providers.Singleton(SystemClock)
    ip_resolver: providers.Provider[IpResolver] = providers.Singleton(_ip_resolver, settings)
    store: providers.Provider[ConnectionStore] = providers.Singleton(_store, settings)

    open_connection = providers.Singleton(
        OpenConnection,
        clock=clock,
        ip_resolver=ip_resolver,
        store=store,
        lifetime=settings.provided.lifetime,
        attribute_names=settings.provided.attribute_names,
    )
    close_connection = providers.Singleton(CloseConnection, clock=clock, store=store)
