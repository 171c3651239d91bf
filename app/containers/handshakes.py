"""The container of `$connect` and `$disconnect`: nothing that a handshake does not need."""

import os
from typing import Any, ClassVar

from dependency_injector import containers, providers

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.direct import direct_transport
from app.adapters.dynamodb.store import DynamoDBConnectionStore
from app.adapters.ip import PeerFirstIpResolver, TrustedProxyIpResolver
from app.containers.imports import Imported, storage
from app.domain import ports
from app.domain.handshakes import CloseConnection, OpenConnection
from app.settings import Settings, required


class Handshakes(containers.DeclarativeContainer):
    """What `$connect` and `$disconnect` need, each built once.

    Another part is given by its name: ``Handshakes(settings=..., store=a_store)``.
    """

    settings = providers.Dependency(instance_of=Settings)
    environ = providers.Object(os).provided.environ  # of the module, since compile.py needs its name
    clock: providers.Provider[ports.Clock] = providers.Singleton(SystemClock)
    ip_resolver: providers.Provider[ports.IpResolver] = providers.Selector(
        settings.provided.address_rule,
        peer=providers.Singleton(PeerFirstIpResolver),
        proxies=providers.Singleton(TrustedProxyIpResolver, settings.provided.trusted_proxies),
    )

    table_name = providers.Callable(required, settings.provided.table, "CONNECTIONS_TABLE")
    connecting: ClassVar[dict[str, Any]] = {
        "region": providers.Callable(required, settings.provided.region, "AWS_REGION"),
        "endpoint": settings.provided.dynamodb_endpoint,
        "connect_timeout": settings.provided.store_timeouts.connect,
        "read_timeout": settings.provided.store_timeouts.read,
        "attempts": settings.provided.store_timeouts.attempts,
    }
    # boto3 doubles a cold start, so it is imported only when STORE chooses it
    client = providers.Singleton(Imported("app.adapters.dynamodb.sdk:dynamodb_client"), **connecting)
    transport = providers.Selector(
        settings.provided.store,
        **{
            "dynamodb": providers.Singleton(direct_transport, **connecting),
            "dynamodb-boto3": providers.Singleton(
                Imported("app.adapters.dynamodb.sdk:SdkTransport"), client=client
            ),
        },
    )
    store: providers.Provider[ports.ConnectionStore] = providers.Selector(
        settings.provided.storage,
        dynamodb=providers.Singleton(
            DynamoDBConnectionStore,
            transport,
            table_name,
            index_unscoped=settings.provided.includes_unscoped,
        ),
        memory=providers.Singleton(Imported("app.adapters.memory:MemoryConnectionTable")),
        imported=providers.Singleton(
            storage, settings.provided.store, environ, ports.ConnectionStore, "$connect and $disconnect"
        ),
    )

    open_connection = providers.Singleton(
        OpenConnection,
        clock=clock,
        ip_resolver=ip_resolver,
        store=store,
        lifetime=settings.provided.lifetime,
        attribute_names=settings.provided.attribute_names,
    )
    close_connection = providers.Singleton(CloseConnection, clock=clock, store=store)
