"""Where the management API of a connection is: its URL, and the region that the signature names."""

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from app.domain.model import Connection

SERVICE = "execute-api"
# The characters of an API's, a region's and a stage's name (API Gateway's developer guide). An item must not
# make us send a signed request to any other host.
_API_ID = re.compile(r"[a-z0-9]{1,32}")
_API_DOMAIN = re.compile(rf"{_API_ID.pattern}\.{SERVICE}\.(?P<region>[a-z0-9-]+)\.(?P<suffix>[a-z0-9.-]+)")
_STAGE = re.compile(r"[A-Za-z0-9_$-]{1,128}")
_MAX_KNOWN = 64
"""Stages whose endpoint is kept; a table has one, as a rule."""

_BASE64 = re.compile(r"[A-Za-z0-9_-]+=*")

type StageKey = tuple[str | None, str | None, str | None]


class Endpoint(NamedTuple):
    """A stage's ``@connections`` resource, as a URL that a connection's id is added to."""

    url: str
    region: str

    def of(self, connection: Connection) -> str:
        """Return the URL of *connection*."""
        if _BASE64.fullmatch(connection.id):  # an id of API Gateway; quote() takes ten times as long
            return self.url + connection.id.replace("=", "%3D")
        return self.url + quote(connection.id, safe="")


class Endpoints:
    """The endpoint of each connection.

    It is the domain of the connection's API, in that API's region; for a custom
    domain the API's own domain in *region*. *override*, if given, is the URL of
    the stage that is used for all connections. *suffix_of* returns the domain
    suffix of AWS's hosts in a region, such as ``amazonaws.com.cn``.
    """

    def __init__(self, region: str, suffix_of: Callable[[str], str], override: str | None = None) -> None:
        self._region = region
        self._suffix_of = suffix_of
        self._override = _given(override, region) if override else None
        self._known: dict[StageKey, Endpoint | None] = {}

    def find(self, connection: Connection) -> Endpoint | None:
        """Return the endpoint of *connection*; ``None`` if its entry does not name its API."""
        if self._override is not None:
            return self._override
        key = connection.domain_name, connection.api_id, connection.stage
        if key not in self._known:
            if len(self._known) == _MAX_KNOWN:
                self._known.clear()
            self._known[key] = self._endpoint(*key)
        return self._known[key]

    def _endpoint(self, domain: str | None, api_id: str | None, stage: str | None) -> Endpoint | None:
        if not _STAGE.fullmatch(stage or ""):
            return None
        own = _API_DOMAIN.fullmatch(domain or "")
        if own and own["suffix"] == self._suffix_of(own["region"]):
            return Endpoint(f"https://{domain}/{stage}/@connections/", own["region"])
        if self._region and _API_ID.fullmatch(api_id or ""):
            host = f"{api_id}.{SERVICE}.{self._region}.{self._suffix_of(self._region)}"
            return Endpoint(f"https://{host}/{stage}/@connections/", self._region)
        return None


def _given(stage_url: str, region: str) -> Endpoint:
    parts = urlsplit(stage_url)
    return Endpoint(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/@connections/", region)
