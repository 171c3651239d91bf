"""What the commands work with: the SDK's own settings, the use cases, and plain words for faults."""

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

from app.domain.errors import StorageUnavailable
from app.domain.listing import GetConnection, HangUp, ListConnections
from app.domain.ports import Clock
from app.domain.sweep import SweepConnections
from app.domain.upkeep import InvalidSelection
from app.entrypoints.command_line.screen import plain
from app.entrypoints.command_line.sdk_settings import check_sdk_settings
from app.settings import InvalidSetting, Settings

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
# Of the SDK's many, those that come from the user's own files; the rest are bugs.
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
# Where credentials may come from, besides the profile.
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
    """What the commands ask of the container."""

    def clock(self) -> Clock: ...
    def list_connections(self) -> ListConnections: ...
    def get_connection(self) -> GetConnection: ...
    def hang_up(self) -> HangUp: ...
    def sweep_connections(self) -> SweepConnections: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """How the commands come to their use cases, and how ``watch`` waits, in seconds."""

    build: Callable[[Settings], UseCases]
    pause: Callable[[float], None] = time.sleep
    table: str | None = None

    @contextmanager
    def at_work(self) -> Iterator[tuple[UseCases, Settings]]:
        """The use cases for a block; a fault that the user can mend ends it with a sentence and status 1."""
        table = self.table or os.environ.get("CONNECTIONS_TABLE", "")
        try:
            settings = Settings.from_environ(_completed(os.environ, table))
            if settings.store != "memory":
                check_sdk_settings()
            yield self.build(settings), settings
        except (BotoCoreError, ClientError, InvalidSelection, InvalidSetting, StorageUnavailable) as error:
            sentence = _sentence(error, table)
            if sentence is None:
                raise
            typer.echo(plain(sentence), err=True)
            raise typer.Exit(1) from error


def _completed(environ: Mapping[str, str], table: str) -> dict[str, str]:
    """*environ* with the table, and the profile's region where it has none itself.

    What is special about the user's endpoints is for the SDK's adapter to know.
    """
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if not region and environ.get("STORE") != "memory":
        region = str(boto3.session.Session().region_name or "")  # the profile may have a section there
    return {"STORE": "dynamodb-boto3"} | {
        name: value
        for name, value in {**environ, "CONNECTIONS_TABLE": table, "AWS_REGION": region or ""}.items()
        if value
    }


def _sentence(error: Exception, table: str) -> str | None:
    """What the user can do about *error*; ``None`` where it is a bug."""
    match error:
        case StorageUnavailable(reason=reason):
            return _unavailable(reason, table)
        case ClientError():
            return _refused(
                error.response["Error"]["Code"], error.response["Error"].get("Message", ""), table
            )
        case BotoCoreError() if isinstance(error, _NO_CREDENTIALS):
            return _unavailable(type(error).__name__, table)
        case BotoCoreError() if not isinstance(error, _MISCONFIGURED):
            return None
    return str(error)


def _unavailable(reason: str, table: str) -> str:
    return about_credentials(reason) or (
        f"The table {table} can't be reached, or it did not answer in time ({reason})."
    )


def about_credentials(reason: str) -> str | None:
    """What the user can do about a fault of the store; ``None`` where it is not about credentials."""
    if reason in {fault.__name__ for fault in _NO_CREDENTIALS}:
        given = ", ".join(name for name in _CREDENTIAL_VARIABLES if name in os.environ)
        remedy = f"look at {given}, set AWS_PROFILE, or sign in" if given else "set AWS_PROFILE, or sign in"
        return f"There are no AWS credentials that can be used ({reason}): {remedy}."
    if reason in _CREDENTIALS_REFUSED:
        return f"AWS refuses the credentials ({reason}): sign in again, or set another AWS_PROFILE."
    return None


def _refused(code: str, message: str, table: str) -> str | None:
    if code == "ResourceNotFoundException":
        return (
            f"There is no table {table} there: look at --table, AWS_REGION, AWS_PROFILE and AWS_ENDPOINT_URL."
        )
    if code == "AccessDeniedException":
        return f"AWS does not allow it: {message}"
    if code in _CREDENTIALS_REFUSED:
        return _unavailable(code, table)
    if code == "ValidationException" and "index" in message:
        return f"The table {table} lacks an index for that, or is still building it: {message}"
    return None
