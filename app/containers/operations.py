"""The container of the sweep, and what the other operations need, too."""

import os
from typing import Any, ClassVar

from dependency_injector import containers, providers

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.sdk import SdkTransport, dynamodb_client
from app.adapters.dynamodb.table import DynamoDBConnectionTable
from app.adapters.dynamodb.transport import Transport
from app.adapters.gateway import ManagementApiGateway
from app.adapters.memory import MemoryConnectionTable
from app.adapters.sqs import SqsCatchUps
from app.adapters.threads import ThreadWorkers
from app.containers.imports import storage
from app.domain import ports
from app.domain.operations import EvictConnection, GetConnection, ListConnections
from app.domain.sweep import SweepConnections
from app.settings import Settings, required


class Operations(containers.DeclarativeContainer):
    """What the operations need, each built once.

    Another part is given by its name: ``Operations(settings=..., table=a_table)``.
    """

    settings = providers.Dependency(instance_of=Settings)
    environ = providers.Object(os.environ)
    publisher: providers.Provider[ports.EventPublisher] = providers.Dependency()
    clock: providers.Provider[ports.Clock] = providers.Singleton(SystemClock)
    sweep = settings.provided.sweep
    timeouts = settings.provided.store_timeouts
    table_name = providers.Callable(required, settings.provided.table, "CONNECTIONS_TABLE")
    queueing: ClassVar[dict[str, Any]] = {
        "region": providers.Callable(required, settings.provided.region, "AWS_REGION"),
        "connect_timeout": timeouts.connect,
        "read_timeout": timeouts.read,
    }
    connecting: ClassVar[dict[str, Any]] = queueing | {
        "endpoint": settings.provided.dynamodb_endpoint,
        "attempts": timeouts.attempts,
    }
    client = providers.Singleton(dynamodb_client, **connecting, connections=sweep.concurrency)
    transport: providers.Provider[Transport] = providers.Singleton(SdkTransport, client)
    table: providers.Provider[ports.ConnectionTable] = providers.Selector(
        settings.provided.storage,
        dynamodb=providers.Singleton(DynamoDBConnectionTable, table=table_name, transport=transport),
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
        **queueing,
    )

    list_connections = providers.Singleton(ListConnections, table, clock)
    get_connection = providers.Singleton(GetConnection, table, clock)
    evict_connection = providers.Singleton(EvictConnection, table, gateway, clock, sweep.grace)
    sweep_connections = providers.Singleton(
        SweepConnections, table, gateway, clock, workers, sweep.grace, sweep.rate, publisher, sweep.keep_alive
    )
