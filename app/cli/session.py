"""A command's session: its settings, its use cases, and sentences for the errors that a user can fix."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import boto3
import typer
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    CredentialRetrievalError,
    InvalidChecksumConfigError,
    InvalidConfigError,
    InvalidDefaultsMode,
    InvalidIMDSEndpointError,
    InvalidIMDSEndpointModeError,
    InvalidRetryConfigurationError,
    InvalidS3UsEast1RegionalEndpointConfigError,
    InvalidSTSRegionalEndpointsConfigError,
    LoginError,
    MissingDependencyException,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
)

from app.cli.screen import plain
from app.cli.sdk_settings import check_sdk_settings
from app.domain.errors import (
    InvalidHandshake,
    InvalidMessage,
    InvalidSelection,
    QueueUnavailable,
    StorageUnavailable,
)
from app.domain.operations import EvictConnection, GetConnection, ListConnections, MintTicket
from app.domain.ports import Clock, Deliveries, MessageQueue, MessageReader
from app.domain.recipients import ReadRecipients
from app.domain.sweep import SweepConnections
from app.settings import InvalidSetting, Settings, required

_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
_CREDENTIALS_REFUSED = frozenset(
    {
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    }
)
# The SDK's errors that a user's own files cause. Any other is a bug.
_MISCONFIGURED = (
    ConfigNotFound,
    ConfigParseError,
    InvalidChecksumConfigError,
    InvalidConfigError,
    InvalidDefaultsMode,
    InvalidIMDSEndpointError,
    InvalidIMDSEndpointModeError,
    InvalidRetryConfigurationError,
    InvalidS3UsEast1RegionalEndpointConfigError,
    InvalidSTSRegionalEndpointsConfigError,
    LoginError,
    MissingDependencyException,
    ProfileNotFound,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
)
# The sources of credentials besides the profile.
_CREDENTIAL_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SESSION_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
)


class UseCases(Protocol):
    """The use cases of the commands; a container has them."""

    def clock(self) -> Clock: ...
    def list_connections(self) -> ListConnections: ...
    def get_connection(self) -> GetConnection: ...
    def evict_connection(self) -> EvictConnection: ...
    def sweep_connections(self) -> SweepConnections: ...
    def read_recipients(self) -> ReadRecipients: ...
    def deliveries(self) -> Deliveries: ...
    def queue(self) -> MessageQueue: ...
    def read_message(self) -> MessageReader: ...
    def mint_ticket(self) -> MintTicket: ...


@dataclass(frozen=True, slots=True)
class Session:
    """How a command gets its use cases, and how ``watch`` pauses, in seconds."""

    build: Callable[[Settings], UseCases]
    pause: Callable[[float], None] = time.sleep
    table: str | None = None

    @contextmanager
    def open(self, *, variable: str = "") -> Iterator[tuple[UseCases, Settings]]:
        """Yield the use cases and the settings for a block.

        An error that the user can fix ends the command with a sentence and
        status 1. Any other is raised. *variable* names the table that the
        block uses, if that is not the one of connections.
        """
        table = self.table or os.environ.get("CONNECTIONS_TABLE", "")
        try:
            settings = Settings.from_environ(_completed(os.environ, table))
            table = required(os.environ.get(variable, ""), variable) if variable else self._table_of(settings)
            if settings.storage != "memory":
                check_sdk_settings()
            yield self.build(settings), settings
        except (
            BotoCoreError,
            ClientError,
            InvalidHandshake,
            InvalidMessage,
            InvalidSelection,
            InvalidSetting,
            QueueUnavailable,
            StorageUnavailable,
        ) as error:
            sentence = _sentence(error, table, variable or "--table")
            if sentence is None:
                raise
            typer.echo(plain(sentence), err=True)
            raise typer.Exit(1) from error

    def _table_of(self, settings: Settings) -> str:
        if settings.storage == "dynamodb":
            return required(settings.table, "CONNECTIONS_TABLE")
        if self.table:
            raise InvalidSetting(f"--table names a DynamoDB table, and STORE={settings.store} has none.")
        return ""


def _completed(environ: Mapping[str, str], table: str) -> dict[str, str]:
    """Return *environ* with the table and, if it has no region, the profile's.

    The SDK's transport is the default: it knows all of a user's endpoints.
    """
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if not region and environ.get("STORE") != "memory":
        region = str(boto3.session.Session().region_name or "")  # the profile may have a section there
    return {"STORE": "dynamodb-boto3"} | {
        name: value
        for name, value in {**environ, "CONNECTIONS_TABLE": table, "AWS_REGION": region or ""}.items()
        if value
    }


def _sentence(error: Exception, table: str, named_by: str) -> str | None:
    """Return what the user can do about *error*; ``None`` if it is a bug."""
    match error:
        case StorageUnavailable(reason=reason):
            return _unavailable(reason, table)
        case QueueUnavailable(reason=reason):
            return about_credentials(reason) or (
                f"The queue did not take the message ({reason}): look at MESSAGE_QUEUE, AWS_REGION and "
                "AWS_PROFILE."
            )
        case ClientError():
            return _refused(
                error.response["Error"]["Code"], error.response["Error"].get("Message", ""), table, named_by
            )
        case BotoCoreError() if isinstance(error, _NO_CREDENTIALS):
            return _unavailable(type(error).__name__, table)
        case BotoCoreError() if not isinstance(error, _MISCONFIGURED):
            return None
    return str(error)


def _unavailable(reason: str, table: str) -> str:
    name = f"table {table}" if table else "store"
    return (
        about_credentials(reason) or f"The {name} can't be reached, or it did not answer in time ({reason})."
    )


def about_credentials(reason: str) -> str | None:
    """Return what the user can do about an error of the store; ``None`` if credentials are not its cause."""
    if reason in {fault.__name__ for fault in _NO_CREDENTIALS}:
        given = ", ".join(name for name in _CREDENTIAL_VARIABLES if name in os.environ)
        remedy = f"look at {given}, set AWS_PROFILE, or sign in" if given else "set AWS_PROFILE, or sign in"
        return f"There are no AWS credentials that can be used ({reason}): {remedy}."
    if reason in _CREDENTIALS_REFUSED:
        return f"AWS refuses the credentials ({reason}): sign in again, or set another AWS_PROFILE."
    return None


def _refused(code: str, message: str, table: str, named_by: str) -> str | None:
    if code == "ResourceNotFoundException":
        return (
            f"There is no table {table} there: look at {named_by}, AWS_REGION, AWS_PROFILE and "
            "AWS_ENDPOINT_URL."
        )
    if code == "AccessDeniedException":
        return f"AWS does not allow it: {message}"
    if code in _CREDENTIALS_REFUSED:
        return _unavailable(code, table)
    if code == "ValidationException" and "index" in message:
        return (
            f"The table {table} lacks an index for that (set CLIENT_INDEX or ACCOUNT_INDEX to false, and the "
            f"whole table is read), or is still building it: {message}"
        )
    return None
