"""What decides who may come in: a part of the container of the handshakes."""

import os
from typing import Any, ClassVar

from dependency_injector import containers, providers

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.direct import direct_transport
from app.containers.imports import Imported, no_transport
from app.domain import ports
from app.domain.handshakes import OpenAdmission
from app.settings import Settings, required


class Admission(containers.DeclarativeContainer):
    """Admission, and the transport that it shares with the store, each built once."""

    settings = providers.Dependency(instance_of=Settings)
    environ = providers.Object(os).provided.environ  # of the module, since compile.py needs its name
    clock: providers.Provider[ports.Clock] = providers.Singleton(SystemClock)
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
        settings.provided.transport,
        direct=providers.Singleton(direct_transport, **connecting),
        boto3=providers.Singleton(Imported("app.adapters.dynamodb.sdk:SdkTransport"), client=client),
        none=providers.Singleton(no_transport),
    )

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
    key_sets = providers.Singleton(Imported("app.domain.keys:cached_keys"), key_store, clock)
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
