"""The container of `$connect` and `$disconnect`: nothing that a handshake does not need."""

from dependency_injector import providers

from app.adapters.dynamodb.store import DynamoDBConnectionStore
from app.adapters.ip import PeerFirstIpResolver, TrustedProxyIpResolver
from app.containers.admission import Admission
from app.containers.imports import Imported, storage
from app.domain import ports
from app.domain.handshakes import CloseConnection, OpenConnection
from app.settings import required


class Handshakes(Admission):
    """What `$connect` and `$disconnect` need, each built once.

    Another part is given by its name: ``Handshakes(settings=..., store=a_store)``.
    """

    settings, clock = Admission.settings, Admission.clock
    ip_resolver: providers.Provider[ports.IpResolver] = providers.Selector(
        settings.provided.address_rule,
        peer=providers.Singleton(PeerFirstIpResolver),
        proxies=providers.Singleton(TrustedProxyIpResolver, settings.provided.trusted_proxies),
    )

    table_name = providers.Callable(required, settings.provided.table, "CONNECTIONS_TABLE")
    store: providers.Provider[ports.ConnectionStore] = providers.Selector(
        settings.provided.storage,
        dynamodb=providers.Singleton(
            DynamoDBConnectionStore,
            Admission.transport,
            table_name,
            index_unscoped=settings.provided.includes_unscoped,
        ),
        memory=providers.Singleton(Imported("app.adapters.memory:MemoryConnectionTable")),
        imported=providers.Singleton(
            storage,
            settings.provided.store,
            Admission.environ,
            ports.ConnectionStore,
            "$connect and $disconnect",
        ),
    )

    open_connection = providers.Singleton(
        OpenConnection,
        clock=clock,
        ip_resolver=ip_resolver,
        admission=Admission.admission,
        store=store,
        lifetime=settings.provided.lifetime,
        attribute_names=settings.provided.attribute_names,
    )
    close_connection = providers.Singleton(CloseConnection, clock=clock, store=store)
