"""Whom to believe that it is who it says: the certificate authorities for an endpoint.

Loading all of the system's 140 or so takes 26 ms and more of a cold start,
Amazon's own five take 2. The public endpoints of AWS have certificates of
those ('Amazon Trust Services', aws.amazon.com/trust/repository). What they do
not verify is checked against the full bundle: certificates are always checked.
"""

import ssl
from collections.abc import Callable, Mapping
from functools import cache, partial
from os import path

type TlsContext = Callable[[], ssl.SSLContext]
"""Makes a context that checks certificates and host names, the same one each time."""

# not by pathlib, which would cost a start 3 ms
AMAZON_ROOTS = path.join(path.dirname(__file__), "amazon_roots.pem")  # noqa: PTH118, PTH120
"""Written when the image is built, from certifi's bundle; elsewhere it may be missing."""

_PUBLIC_ENDPOINTS = (".amazonaws.com", ".amazonaws.com.cn")


def trust_for(host: str, environ: Mapping[str, str], roots: str = AMAZON_ROOTS) -> list[TlsContext]:
    """The contexts to try in turn for *host*.

    AWS_CA_BUNDLE, the SDK's own variable, names a file to be trusted instead;
    a context raises ValueError where that is none.
    """
    if bundle := environ.get("AWS_CA_BUNDLE"):
        return [partial(_context, bundle)]
    if host.endswith(_PUBLIC_ENDPOINTS) and path.exists(roots):  # noqa: PTH110 - likewise
        return [partial(_context, roots), partial(_context, None)]
    return [partial(_context, None)]


@cache
def _context(bundle: str | None) -> ssl.SSLContext:
    """A context that trusts *bundle*; without one, the system's (SSL_CERT_FILE names another)."""
    try:
        context = ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise ValueError(f"AWS_CA_BUNDLE must name a file of certificates; {bundle!r} is none.") from error
    # Python 3.13 asks more of certificates than the SDK does, and more than many a private authority's have
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
