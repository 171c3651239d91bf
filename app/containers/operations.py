"""The container of the sweep, and what the other operations need, too."""

import os
from typing import Any, ClassVar

from dependency_injector import providers

from app.adapters.dynamodb.sdk import SdkTransport, dynamodb_client
from app.adapters.dynamodb.table import DynamoDBConnectionTable
from app.adapters.dynamodb.transport import Transport
from app.adapters.gateway import ManagementApiGateway
from app.adapters.memory import MemoryConnectionTable
from app.adapters.sqs import SqsCatchUps
from app.adapters.threads import ThreadWorkers
from app.containers.imports import storage
from app.containers.publishing import Publishing
from app.domain import ports
from app.domain.operations import EvictConnection, GetConnection, ListConnections
from app.domain.sweep import SweepConnections
from app.settings import required


class Operations(Publishing):
    """What the operations need, each built once.

    Another part is given by its name: ``Operations(settings=..., table=a_table)``.
    """

    settings, clock, publisher = Publishing.settings, Publishing.clock, Publishing.publisher
    table_name, calling = Publishing.table_name, Publishing.calling
    environ = providers.Object(os.environ)
    sweep = settings.provided.sweep
    connecting: ClassVar[dict[str, Any]] = calling | {"endpoint": settings.provided.dynamodb_endpoint}
    client = providers.Singleton(dynamodb_client, **connecting, connections=sweep.concurrency)
    transport: providers.Provider[Transport] = providers.Singleton(SdkTransport, client)
    table: providers.Provider[ports.ConnectionTable] = providers.Selector(
        settings.provided.storage,
        dynamodb=providers.Singleton(
            DynamoDBConnectionTable,
            table=table_name,
            transport=transport,
            client_index=settings.provided.has_client_index,
            account_index=settings.provided.has_account_index,
        ),
        memory=providers.Singleton(MemoryConnectionTable),
        imported=providers.Singleton(
            storage, settings.provided.store, environ, ports.ConnectionTable, "the sweep and the command line"
        ),
    )
    gateway: providers.Provider[ports.Gateway] = providers.Singleton(
        ManagementApiGateway,
        region=settings.provided.region,
        endpoint=settings.provided.gateway_endpoint,
        connections=sweep.concurrency,
    )
    workers: providers.Provider[ports.WorkerPool] = providers.Singleton(ThreadWorkers, sweep.concurrency)
    queued_catch_ups: providers.Provider[ports.CatchUps] = providers.Singleton(
        SqsCatchUps,
        name=providers.Callable(required, settings.provided.catch_up_queue, "CATCH_UP_QUEUE"),
        **calling,
    )

    list_connections = providers.Singleton(ListConnections, table, clock)
    get_connection = providers.Singleton(GetConnection, table, clock)
    evict_connection = providers.Singleton(EvictConnection, table, gateway, clock, sweep.grace)
    sweep_connections = providers.Singleton(
        SweepConnections, table, gateway, clock, workers, sweep.grace, sweep.rate, publisher, sweep.keep_alive
    )
