"""The transport through boto3: a client with our time-outs, and its errors translated."""

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
from botocore import xform_name
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

from app.adapters.dynamodb.transport import (
    CONDITION_FAILED,
    CREDENTIALS_REFUSED,
    THROTTLED,
    Answer,
    ConditionFailed,
)
from app.domain.errors import StorageUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_CREDENTIALS_UNUSABLE = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
_UNREACHABLE = (HTTPClientError, BotocoreConnectionError)
# Of those, the errors that come before the request is sent. After any other, it may have been carried out.
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
    """Return a client that makes up to *attempts* attempts, each within both time-outs.

    It keeps up to *connections* connections open, one per thread that calls it
    concurrently. botocore's time-outs detect a silent peer only: one that sends
    byte by byte can hold a call until Lambda stops the function.

    Raises:
        BotoCoreError: a setting of the SDK, or its credentials, can't be used.
    """
    logging.getLogger("botocore").setLevel(logging.WARNING)  # at INFO it logs where it found credentials
    with _translate_setting_errors():
        session = boto3.session.Session()
    with _translate_credential_errors():
        credentials = session.get_credentials()
    config = Config(
        connect_timeout=connect_timeout.total_seconds(),
        read_timeout=read_timeout.total_seconds(),
        max_pool_connections=connections,
        retries={"mode": "standard", "total_max_attempts": attempts},
        proxies={} if _is_plain_http(endpoint) else None,
    )
    with _translate_setting_errors():
        client = session.client("dynamodb", region_name=region, endpoint_url=endpoint, config=config)
        found = client.meta.endpoint_url
        if endpoint is None and _is_plain_http(found):  # a profile says so
            client.close()
            config = config.merge(Config(proxies={}))
            client = session.client("dynamodb", region_name=region, endpoint_url=found, config=config)
        _ = urlsplit(found).port  # a port that is none is refused only here
    if credentials is not None:
        client.meta.events.register(
            "provide-client-params.dynamodb", partial(_check_credentials, credentials)
        )
    return client


def _is_plain_http(endpoint: str | None) -> bool:
    """Return whether *endpoint* is used without a proxy: it has no TLS, so it is local."""
    return endpoint is not None and endpoint.startswith("http:")


@contextmanager
def _translate_setting_errors() -> Iterator[None]:
    """Translate what the SDK raises for its own settings; ours are checked."""
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
    """Translate what the SDK raises while it reads credentials: any source of them fails in its own way."""
    try:
        yield
    except Exception as error:
        unnamed = (*_UNREACHABLE, ParamValidationError, ValueError)
        if isinstance(error, BotoCoreError) and not isinstance(error, unnamed):
            raise  # its text says what to fix
        raise CredentialRetrievalError(provider="AWS", error_msg=type(error).__name__) from error


def _check_credentials(credentials: Credentials, **_: object) -> None:
    """Check that credentials fit into HTTP headers.

    The SDK calls this before each request (event ``provide-client-params``),
    since some credentials are read only then.
    """
    with _translate_credential_errors():
        secret = "".join(it or "" for it in credentials.get_frozen_credentials())
        if not (secret.isascii() and secret.isprintable()):
            raise ValueError


class SdkTransport:
    """Transport through a boto3 *client*. Thread-safe."""

    def __init__(self, client: "DynamoDBClient") -> None:
        self._client = client
        self._calls = threading.local()
        client.meta.events.register("response-received.dynamodb", self._note_attempt)

    def call(self, operation: str, request: Mapping[str, Any]) -> Answer:
        self._calls.outcome_unknown = False
        with self._translate_errors():
            answer: Mapping[str, Any] = getattr(self._client, xform_name(operation))(**request)
        # The SDK takes any 200 for a success, a captive portal's page included. DynamoDB sends a request id.
        if "RequestId" not in answer["ResponseMetadata"]:
            raise StorageUnavailable("NotDynamoDB", outcome_unknown=True)
        return Answer(answer, outcome_unknown=self._calls.outcome_unknown)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except _CREDENTIALS_UNUSABLE as error:
            raise StorageUnavailable(type(error).__name__, outcome_unknown=False) from error
        except _UNREACHABLE as error:
            raise StorageUnavailable(
                type(error).__name__, outcome_unknown=self._calls.outcome_unknown
            ) from error
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == CONDITION_FAILED:
                item = error.response.get("Item")
                raise ConditionFailed(item, outcome_unknown=self._calls.outcome_unknown) from None
            if not _is_transient(error):
                raise
            raise StorageUnavailable(code, outcome_unknown=self._calls.outcome_unknown) from error

    def _note_attempt(self, exception: Exception | None, parsed_response: Any, **_: object) -> None:
        """Note whether an attempt was sent and not answered.

        The SDK calls this after each attempt (event ``response-received``). It
        raises only the last attempt's error; an earlier attempt may have been
        carried out.
        """
        if exception is not None:
            unknown = not isinstance(exception, _NEVER_SENT)
        else:
            unknown = _is_server_error(parsed_response)
        self._calls.outcome_unknown = getattr(self._calls, "outcome_unknown", False) or unknown


def _is_transient(error: ClientError) -> bool:
    """Return whether the same request may succeed later."""
    code = error.response["Error"]["Code"]
    return (
        code in THROTTLED
        or code in CREDENTIALS_REFUSED
        or _is_server_error(error.response)
        or code.isdecimal()  # the HTTP status of an answer that is not DynamoDB's, such as a proxy's page
    )


def _is_server_error(response: Any) -> bool:
    return bool(response["ResponseMetadata"]["HTTPStatusCode"] >= HTTPStatus.INTERNAL_SERVER_ERROR)
