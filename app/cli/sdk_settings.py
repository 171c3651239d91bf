"""Checks of the SDK's own settings, before it uses them.

For a wrong one the SDK raises a plain ValueError or OSError, possibly in the
middle of a sweep, and does not name the setting.
"""

import os
import ssl
from urllib.request import getproxies

from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from botocore.httpsession import ProxyConfiguration
from botocore.session import Session
from urllib3.util import parse_url

from app.settings import InvalidSetting


def check_sdk_settings() -> None:
    """Check the numbers, TLS files and proxies in the environment and in the profile.

    Raises:
        InvalidSetting: one of them can't be used.
        BotoCoreError: the profile or its file can't be read.
    """
    session = Session()
    _check_numbers(session)
    _check_ca_bundle(session)
    _check_key_log()
    for scheme in ("http", "https"):
        _check_proxy(scheme)


def _check_numbers(session: Session) -> None:
    for name, (key, variable, _, convert) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items():
        if convert is int:
            try:
                session.get_config_variable(name)
            except (TypeError, ValueError):  # the profile may have a section there
                raise InvalidSetting(
                    f"{variable}, or {key} in the profile, must be a whole number."
                ) from None


def _check_ca_bundle(session: Session) -> None:
    bundle = session.get_config_variable("ca_bundle")
    if bundle is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=bundle)
    except (OSError, TypeError) as error:
        raise InvalidSetting(
            "AWS_CA_BUNDLE, or ca_bundle in the profile, must be a file of certificates, in PEM format: "
            f"{bundle!r} is none."
        ) from error


def _check_key_log() -> None:
    """Check the file to which a TLS context writes its keys, for debugging."""
    if file := os.environ.get("SSLKEYLOGFILE"):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).keylog_filename = file
        except OSError as error:
            raise InvalidSetting("SSLKEYLOGFILE must be a file that can be written.") from error


def _check_proxy(scheme: str) -> None:
    """Check a proxy's URL. The error does not show it: it may have a password."""
    proxies = ProxyConfiguration(getproxies())
    try:
        url = proxies.proxy_url_for(f"{scheme}:")
        if not url:
            return
        proxies.proxy_headers_for(url)
        host = (parse_url(url).host or "").encode("idna")
    except ValueError:
        host = b""
    # the SDK puts http:// before a scheme that it does not know
    if not host or url.count("://") > 1:
        raise InvalidSetting(
            f"{scheme.upper()}_PROXY must be an http or https URL in ASCII of a host, and a port if need be."
        )
