"""The container of the function that fetches the issuer's keys."""

import os

from dependency_injector import containers, providers

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.direct import direct_transport
from app.adapters.dynamodb.keys import DynamoDBKeyStore
from app.adapters.tokens.algorithm import Algorithm
from app.adapters.tokens.es256 import ES256
from app.adapters.tokens.issuer import HttpsIssuer
from app.adapters.tokens.rs256 import RS256
from app.domain import ports
from app.domain.keys import RefreshKeys
from app.settings import Settings, required
from app.settings.tokens import jwks_url, token_algorithm, token_issuer


class Keys(containers.DeclarativeContainer):
    """What the function needs, each built once."""

    settings = providers.Dependency(instance_of=Settings)
    clock: providers.Provider[ports.Clock] = providers.Singleton(SystemClock)
    environ = providers.Object(os.environ)
    issuer_url = providers.Callable(token_issuer, environ)
    transport = providers.Singleton(
        direct_transport,
        region=providers.Callable(required, settings.provided.region, "AWS_REGION"),
        endpoint=settings.provided.dynamodb_endpoint,
        connect_timeout=settings.provided.store_timeouts.connect,
        read_timeout=settings.provided.store_timeouts.read,
        attempts=settings.provided.store_timeouts.attempts,
    )
    algorithm: providers.Provider[Algorithm] = providers.Selector(
        providers.Callable(token_algorithm, environ),
        RS256=providers.Singleton(RS256),
        ES256=providers.Singleton(ES256),
    )
    issuer: providers.Provider[ports.Issuer] = providers.Singleton(
        HttpsIssuer, issuer_url, algorithm, jwks_url=providers.Callable(jwks_url, environ)
    )
    store: providers.Provider[ports.KeyStore] = providers.Singleton(
        DynamoDBKeyStore,
        transport,
        providers.Callable(required, settings.provided.keys_table, "KEYS_TABLE"),
        issuer_url,
    )
    refresh_keys = providers.Singleton(RefreshKeys, issuer, store, clock)
