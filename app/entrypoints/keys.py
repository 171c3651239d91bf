"""The refresh of the issuer's keys as a Lambda handler: one log record of each."""

import logging
from dataclasses import dataclass

from app.domain.errors import IssuerUnavailable, StorageUnavailable
from app.domain.keys import RefreshKeys

logger = logging.getLogger("switchboard")


@dataclass(frozen=True, slots=True)
class KeysHandler:
    """Fetches the issuer's keys and keeps them where handshakes read them."""

    refresh_keys: RefreshKeys

    def __call__(self, event: object, context: object) -> dict[str, object]:  # noqa: ARG002 - a schedule's
        """Refresh the keys, log the outcome and return it. If it fails, the keys from before are used on."""
        try:
            issued = self.refresh_keys()
        except (IssuerUnavailable, StorageUnavailable) as error:
            facts: dict[str, object] = {"event": "keys.not_refreshed", "reason": error.reason}
            logger.error("keys not refreshed", extra=facts)  # noqa: TRY400 - expected, so no traceback
            return facts
        facts = {"event": "keys.refreshed", "keyIds": sorted(issued.keys)}
        logger.info("keys refreshed", extra=facts)
        return facts
