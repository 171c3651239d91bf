"""A boto3 client of DynamoDB for our purposes, and the meaning of its faults."""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    InvalidConfigError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
)
from botocore.exceptions import ConnectionError as BotocoreConnectionError

from app.adapters.dynamodb_wire import CREDENTIALS_REFUSED, THROTTLED
from app.domain.errors import StorageUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_CREDENTIALS_UNUSABLE = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
_UNREACHABLE = (HTTPClientError, BotocoreConnectionError)
# Of those, the faults that come before a request is on its way; after any other, it may have been done.
_NEVER_SENT = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError)


def dynamodb_client(
    *,
    region: str,
    connect_timeout: timedelta,
    read_timeout: timedelta,
    attempts: int,
    endpoint: str | None = None,
    connections: int = 10,
) -> "DynamoDBClient":
    """A client that asks *attempts* times in all, each with both time-outs, with random pauses between.

    It keeps as many *connections* open as there are threads that call it at once.

    botocore's time-outs are for a peer that is silent: one that trickles can
    hold a call for longer, until Lambda ends the function.
    """
    logging.getLogger("botocore").setLevel(logging.WARNING)  # it tells at INFO where it found credentials
    with _translate_setting_errors():
        session = boto3.session.Session()
    with _translate_credential_errors():
        credentials = session.get_credentials()
    config = Config(
        connect_timeout=connect_timeout.total_seconds(),
        read_timeout=read_timeout.total_seconds(),
        max_pool_connections=connections,
        retries={"mode": "standard", "total_max_attempts": attempts},
        proxies={} if _is_near(endpoint) else None,
    )
    with _translate_setting_errors():
        client = session.client("dynamodb", region_name=region, endpoint_url=endpoint, config=config)
        found = client.meta.endpoint_url
        if endpoint is None and _is_near(found):  # a profile says so
            client.close()
            config = config.merge(Config(proxies={}))
            client = session.client("dynamodb", region_name=region, endpoint_url=found, config=config)
        _ = urlsplit(found).port  # a port that is none is refused only here
    if credentials is not None:
        client.meta.events.register(
            "provide-client-params.dynamodb", partial(_check_credentials, credentials)
        )
    return client


def _is_near(endpoint: str | None) -> bool:
    """Whether no proxy leads to *endpoint*: without TLS it is on this machine, or beside it."""
    return endpoint is not None and endpoint.startswith("http:")


@contextmanager
def _translate_setting_errors() -> Iterator[None]:
    """Around what the SDK builds from its own settings, besides ours, which are checked."""
    try:
        yield
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidConfigError(
            error_msg=f"The SDK can't use one of its settings ({type(error).__name__}): look at "
            "AWS_ENDPOINT_URL_DYNAMODB and AWS_ENDPOINT_URL, and in the profile at endpoint_url, services, "
            "api_versions, data_path, defaults_mode and s3."
        ) from error


@contextmanager
def _translate_credential_errors() -> Iterator[None]:
    """Around nothing but the SDK's reading of credentials: raise whatever goes wrong as its own error.

    A file, a program, an endpoint: each may fail in ways that the SDK has no name for.
    """
    try:
        yield
    except Exception as error:
        unnamed = (*_UNREACHABLE, ParamValidationError, ValueError)
        if isinstance(error, BotoCoreError) and not isinstance(error, unnamed):
            raise  # it says what to mend
        raise CredentialRetrievalError(provider="AWS", error_msg=type(error).__name__) from error


def _check_credentials(credentials: Credentials, **_: object) -> None:
    """Called by the SDK before each call (event ``provide-client-params``), since some are read only then.

    They go into HTTP headers.
    """
    with _translate_credential_errors():
        secret = "".join(it or "" for it in credentials.get_frozen_credentials())
        if not (secret.isascii() and secret.isprintable()):
            raise ValueError


class Attempts:
    """Whether an attempt of the call went out and its outcome never came back.

    The SDK shows only its last attempt's fault. An earlier one may have been
    carried out unheard, which a refusal of the last does not undo. Each thread
    has its own calls.
    """

    def __init__(self, client: "DynamoDBClient") -> None:
        self._of_thread = threading.local()
        client.meta.events.register("response-received.dynamodb", self.note)

    @property
    def unanswered(self) -> bool:
        """Whether that is so of this thread's call, so far."""
        return getattr(self._of_thread, "unanswered", False)

    @contextmanager
    def faults_named(self) -> Iterator[None]:
        """Around one call: raise the SDK's errors as ours, where they say that the store is unavailable."""
        self._of_thread.unanswered = False
        try:
            yield
        except _CREDENTIALS_UNUSABLE as error:
            raise StorageUnavailable(type(error).__name__, outcome_unknown=False) from error
        except _UNREACHABLE as error:
            raise StorageUnavailable(type(error).__name__, outcome_unknown=self.unanswered) from error
        except ClientError as error:
            if not _is_passing(error):
                raise
            raise StorageUnavailable(
                error.response["Error"]["Code"], outcome_unknown=self.unanswered
            ) from error

    def note(self, exception: Exception | None, parsed_response: Any, **_: object) -> None:
        """Called by the SDK after each attempt (event ``response-received``)."""
        if exception is not None:
            unanswered = not isinstance(exception, _NEVER_SENT)
        else:
            unanswered = _is_server_fault(parsed_response)
        self._of_thread.unanswered = self.unanswered or unanswered


def confirm(answer: Mapping[str, Any]) -> None:
    """Make sure that the answer is DynamoDB's own, by the request id that each of them carries.

    The SDK takes any 200 for a success, a captive portal's web page included.
    """
    if "RequestId" not in answer["ResponseMetadata"]:
        raise StorageUnavailable("NotDynamoDB", outcome_unknown=True)


def _is_passing(error: ClientError) -> bool:
    """Whether the same request may well succeed later."""
    code = error.response["Error"]["Code"]
    return (
        code in THROTTLED
        or code in CREDENTIALS_REFUSED
        or _is_server_fault(error.response)
        or code.isdecimal()  # the SDK's for an answer that is not DynamoDB's, a proxy's page say: its status
    )


def _is_server_fault(response: Any) -> bool:
    return bool(response["ResponseMetadata"]["HTTPStatusCode"] >= HTTPStatus.INTERNAL_SERVER_ERROR)
