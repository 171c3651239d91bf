"""The certificate authorities to trust for an endpoint.

Loading the system's 140 or so costs a cold start 26 ms, Amazon's own five cost
2 ms. The public endpoints of AWS have certificates of those ('Amazon Trust
Services', aws.amazon.com/trust/repository). A certificate that they do not
verify is checked against the full bundle: certificates are always checked.
"""

import ssl
from collections.abc import Callable, Mapping
from functools import cache, partial
from os import path

type TlsContext = Callable[[], ssl.SSLContext]
"""Returns a context that checks certificates and host names; always the same one."""

# os.path, since pathlib costs a start 3 ms
AMAZON_ROOTS = path.join(path.dirname(__file__), "amazon_roots.pem")  # noqa: PTH118, PTH120 - see above
"""Made from certifi's bundle when the image is built; missing elsewhere."""

_PUBLIC_ENDPOINTS = (".amazonaws.com", ".amazonaws.com.cn")


def trust_for(host: str, environ: Mapping[str, str], roots: str = AMAZON_ROOTS) -> list[TlsContext]:
    """Return the contexts to try for *host*, in order.

    AWS_CA_BUNDLE, the SDK's variable, names a file to trust instead.

    Raises:
        ValueError: from a context, if that is not a file of certificates.
    """
    if bundle := environ.get("AWS_CA_BUNDLE"):
        return [partial(_context, bundle)]
    if host.endswith(_PUBLIC_ENDPOINTS) and path.exists(roots):  # noqa: PTH110 - as above
        return [partial(_context, roots), partial(_context, None)]
    return [partial(_context, None)]


@cache
def _context(bundle: str | None) -> ssl.SSLContext:
    """Return a context that trusts *bundle*, by default the system's or the one of SSL_CERT_FILE."""
    try:
        context = ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise ValueError(f"AWS_CA_BUNDLE must name a file of certificates; {bundle!r} is none.") from error
    # Python 3.13 is stricter than the SDK, and many private authorities' certificates would fail
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
