"""The container of the command line: what sending needs, who would get a message, and tickets."""

from secrets import token_urlsafe

from dependency_injector import providers

from app.adapters.dynamodb.tickets import DynamoDBTickets
from app.containers.sending import Sending
from app.domain import ports
from app.domain.operations import MintTicket
from app.domain.recipients import ReadRecipients
from app.settings import required


class CommandLine(Sending):
    """What the commands need, each built once."""

    settings = Sending.settings
    tickets: providers.Provider[ports.TicketStore] = providers.Singleton(
        DynamoDBTickets,
        Sending.transport,
        providers.Callable(required, settings.provided.tickets_table, "TICKETS_TABLE"),
    )
    read_recipients = providers.Singleton(
        ReadRecipients, Sending.recipients, Sending.table, Sending.clock, Sending.unscoped
    )
    mint_ticket = providers.Singleton(MintTicket, tickets, Sending.clock, providers.Object(token_urlsafe))
