"""SnapStart: what the handshakes do before Lambda takes a snapshot of them, and after each restore."""

import os
import ssl
from typing import Any

from snapshot_restore_py import register_after_restore, register_before_snapshot  # of Lambda's runtime

_parts: list[Any] = []


def restorable(part: Any) -> Any:
    """Return *part*. Its ``suspend`` is called before the snapshot, its ``resume`` after each restore.

    ``resume`` returns whether it succeeded.
    """
    register_before_snapshot(part.suspend)
    if not _parts:
        register_after_restore(_after_restore)
    _parts.append(part)
    return part


def _after_restore() -> None:
    # OpenSSL's generator is in the snapshot: all restores would draw the same keys for TLS. The library
    # cryptography has an OpenSSL of its own, which draws nothing here: it verifies signatures alone.
    ssl.RAND_add(seed := os.urandom(32), len(seed))
    for part in _parts:  # as they were built: each needs those before it
        if not part.resume():
            break  # the first call does the rest: all their time-outs may be longer than Lambda's 10 s
