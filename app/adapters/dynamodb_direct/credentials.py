"""Where the credentials come from: Lambda's environment, or any other place that the SDK knows."""

from collections.abc import Callable, Mapping
from typing import Any

from app.adapters.dynamodb_direct.signing import Credentials
from app.domain.errors import StorageUnavailable


def credentials_source(environ: Mapping[str, str]) -> Callable[[], Credentials]:
    """What gives the credentials for each request.

    On Lambda they are in the environment and stay the same as long as it
    lives. Anywhere else they may be in files, at an endpoint or behind a
    single sign-on, and change: that is botocore's business, and only then is
    it imported. How long that takes is botocore's to say, too.
    """
    access_key = environ.get("AWS_ACCESS_KEY_ID")
    secret_key = environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        return _SdkCredentials()
    fixed = Credentials(access_key, secret_key, environ.get("AWS_SESSION_TOKEN") or None)
    return lambda: fixed


class _SdkCredentials:
    """botocore's chain of places, asked again for each request since what it finds may expire."""

    def __init__(self) -> None:
        self._found: Any = None

    def __call__(self) -> Credentials:
        from botocore.session import Session  # noqa: PLC0415 - imported only where it is needed

        try:
            if self._found is None:
                self._found = Session().get_credentials()
            frozen = self._found.get_frozen_credentials() if self._found else None
        except Exception as error:  # a process, a file, an endpoint: any of them may fail in any way
            raise StorageUnavailable(type(error).__name__, outcome_unknown=False) from error
        if frozen is None:
            raise StorageUnavailable("NoCredentialsError", outcome_unknown=False)
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)
