"""What decides who may come in: a part of the container of the handshakes."""

from dependency_injector import providers

from app.adapters.clock import SystemClock
from app.containers.imports import Imported
from app.containers.transport import SharedTransport
from app.domain import ports
from app.domain.handshakes import OpenAdmission
from app.settings import required


class Admission(SharedTransport):
    """Admission, and the transport that it shares with the store, each built once."""

    settings, environ = SharedTransport.settings, SharedTransport.environ
    transport, restorable = SharedTransport.transport, SharedTransport.restorable
    clock: providers.Provider[ports.Clock] = providers.Singleton(SystemClock)

    # what only some settings need is imported only then: OpenSSL, and how tokens are read
    issuer = providers.Callable(Imported("app.settings.tokens:token_issuer"), environ)
    keys_table = providers.Callable(required, settings.provided.keys_table, "KEYS_TABLE")
    tickets_table = providers.Callable(required, settings.provided.tickets_table, "TICKETS_TABLE")
    key_store = providers.Singleton(
        Imported("app.adapters.dynamodb.keys:DynamoDBKeyStore"),
        transport,
        keys_table,
        issuer,
    )
    key_sets = providers.Selector(
        settings.provided.start,
        plain=providers.Singleton(Imported("app.domain.keys:cached_keys"), key_store, clock),
        # a snapshot has no keys, so that none is older than the restore
        snapshot=providers.Singleton(
            restorable, providers.Singleton(Imported("app.domain.keys:KeySetCache"), key_store, clock)
        ),
    )
    algorithm = providers.Selector(
        providers.Callable(Imported("app.settings.tokens:token_algorithm"), environ),
        RS256=providers.Singleton(Imported("app.adapters.tokens.rs256:RS256")),
        ES256=providers.Singleton(Imported("app.adapters.tokens.es256:ES256")),
    )
    signatures = providers.Singleton(
        Imported("app.adapters.tokens.signatures:TokenSignatures"), algorithm, key_sets
    )
    rules = providers.Singleton(
        Imported("app.settings.tokens:token_rules"),
        environ,
        unscoped_sees_all=settings.provided.includes_unscoped,
    )
    tokens = providers.Singleton(Imported("app.domain.admitting:TokenGrants"), signatures, rules)
    tickets = providers.Singleton(
        Imported("app.adapters.dynamodb.tickets:DynamoDBTickets"), transport, tickets_table
    )
    restricted = Imported("app.domain.admitting:RestrictedAdmission")
    origins = settings.provided.allowed_origins
    admission: providers.Provider[ports.Admission] = providers.Selector(
        settings.provided.admission_rule,
        open=providers.Singleton(OpenAdmission),
        origin=providers.Singleton(restricted, origins),
        token=providers.Singleton(restricted, origins, tokens),
        ticket=providers.Singleton(restricted, origins, tickets=tickets),
        token_or_ticket=providers.Singleton(restricted, origins, tokens, tickets),
    )
