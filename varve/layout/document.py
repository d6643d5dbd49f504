"""Small files that people can read and nobody can change unnoticed: JSON that ends with the SHA-256 of the rest.

A document is valid only if it is, byte for byte, what ``encode`` writes: a flipped bit in a space is found as well.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

DOCUMENT_BYTES_MAX: Final = 2**20
_DIGEST: Final = "sha256"


def encode(fields: dict[str, Any]) -> bytes:
    """The bytes of a document: its fields in their order, then the digest of all that."""
    digest = hashlib.sha256(_text(fields)).hexdigest()
    return _text({**fields, _DIGEST: digest})


def decode(raw: bytes) -> dict[str, Any]:
    """The fields of a document. Raises ``ValueError`` where it is not one, whole and unchanged."""
    if len(raw) > DOCUMENT_BYTES_MAX:
        raise ValueError(f"it is longer than {DOCUMENT_BYTES_MAX} bytes")
    try:
        fields = json.loads(raw.decode())
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"it is no JSON ({exc})") from None
    if not isinstance(fields, dict) or _DIGEST not in fields:
        raise ValueError("it has no digest of itself")
    del fields[_DIGEST]
    if encode(fields) != raw:
        raise ValueError("its digest is not that of what it says: it was changed")
    return fields


def _text(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, indent=2) + "\n").encode()
