"""The container of sending and of the command line: the operations, and what delivers messages."""

from dependency_injector import providers

from app.adapters.dynamodb.deliveries import DynamoDBDeliveries
from app.adapters.dynamodb.direct import direct_transport
from app.adapters.dynamodb.history import DynamoDBHistory
from app.adapters.dynamodb.table import RECIPIENT, RECIPIENT_PAGE, DynamoDBConnectionTable
from app.adapters.dynamodb.transport import Transport
from app.adapters.gateway import ManagementApiGateway
from app.adapters.memory import MemoryDeliveries
from app.adapters.messages import message_from
from app.adapters.sqs import SqsQueue
from app.containers.operations import Operations
from app.domain import ports
from app.domain.pace import Pace
from app.domain.sending import DeliverMessage
from app.settings import required


class Sending(Operations):
    """What sending needs besides, each built once."""

    settings, clock, table = Operations.settings, Operations.clock, Operations.table
    workers, unscoped = Operations.workers, settings.provided.includes_unscoped
    direct: providers.Provider[Transport] = providers.Singleton(direct_transport, **Operations.connecting)
    reading = providers.Selector(  # the SDK takes as long to read a recipient as it takes to send to it
        settings.provided.store, **{"dynamodb": direct, "dynamodb-boto3": Operations.transport}
    )
    recipients: providers.Provider[ports.RecipientPages] = providers.Selector(
        settings.provided.storage,
        dynamodb=providers.Singleton(
            DynamoDBConnectionTable,
            table=Operations.table_name,
            transport=reading,
            page_size=RECIPIENT_PAGE,
            attributes=RECIPIENT,
            client_index=settings.provided.has_client_index,
            account_index=settings.provided.has_account_index,
            index_unscoped=unscoped,
        ),
        memory=table,
        imported=table,
    )
    in_dynamodb = providers.Singleton(
        DynamoDBDeliveries,
        Operations.transport,
        providers.Callable(required, settings.provided.deliveries_table, "DELIVERIES_TABLE"),
        clock=clock,
    )
    deliveries: providers.Provider[ports.Deliveries] = providers.Selector(
        settings.provided.storage,
        dynamodb=in_dynamodb,
        memory=providers.Singleton(MemoryDeliveries, clock),
        imported=in_dynamodb,
    )
    kept_history: providers.Provider[ports.History] = providers.Singleton(
        DynamoDBHistory,
        Operations.transport,
        providers.Callable(required, settings.provided.history_table, "HISTORY_TABLE"),
        clock=clock,
        kept_for=settings.provided.history_kept_for,
        unscoped=unscoped,
    )
    history: providers.Provider[ports.History | None] = providers.Selector(
        settings.provided.history, kept=kept_history, none=providers.Object(None)
    )
    courier: providers.Provider[ports.Courier] = providers.Singleton(
        ManagementApiGateway, region=settings.provided.region, endpoint=settings.provided.gateway_endpoint
    )
    queue: providers.Provider[ports.MessageQueue] = providers.Singleton(
        SqsQueue,
        name=providers.Callable(required, settings.provided.message_queue, "MESSAGE_QUEUE"),
        **Operations.calling,
    )
    read_message: providers.Provider[ports.MessageReader] = providers.Object(message_from)
    pace, grace = providers.Singleton(Pace, settings.provided.send_rate), Operations.sweep.grace
    deliver_message = providers.Singleton(
        DeliverMessage, recipients, table, courier, deliveries, clock, workers, pace, grace, unscoped, history
    )
