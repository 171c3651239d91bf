"""Where credentials come from: the environment, as on Lambda, or any place that the SDK knows."""

from collections.abc import Mapping
from typing import Any

from app.adapters.dynamodb.direct.signing import Credentials, CredentialsSource
from app.domain.errors import StorageUnavailable


def credentials_source(environ: Mapping[str, str]) -> CredentialsSource:
    """Return the source of the credentials that the SDK would use.

    On Lambda they are in *environ* and do not change. Elsewhere they may be in
    files, at an endpoint or behind single sign-on, and may change: then
    botocore finds them, within its own time-outs.
    """
    access_key = environ.get("AWS_ACCESS_KEY_ID")
    secret_key = environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        return _SdkCredentials()
    fixed = Credentials(access_key, secret_key, environ.get("AWS_SESSION_TOKEN") or None)
    return lambda _: fixed


class _SdkCredentials:
    """botocore's credential chain, asked for each request since credentials may expire."""

    def __init__(self) -> None:
        self._found: Any = None

    def __call__(self, refused: Credentials | None) -> Credentials:
        if refused is not None:
            return refused  # botocore looks for others when these expire
        from botocore.session import Session  # noqa: PLC0415 - 100 ms, and Lambda never needs it

        try:
            if self._found is None:
                self._found = Session().get_credentials()
            frozen = self._found.get_frozen_credentials() if self._found else None
        except Exception as error:  # processes, files and endpoints fail in any way
            raise StorageUnavailable(type(error).__name__, outcome_unknown=False) from error
        if frozen is None:
            raise StorageUnavailable("NoCredentialsError", outcome_unknown=False)
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)
