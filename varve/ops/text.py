"""Text out of a store, for people: whoever appends an event must not be able to send anything to the terminal, or steer the page,
of whoever looks at it."""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["as_bytes", "json_text", "plain"]

UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Characters that steer a terminal, change the direction of what stands beside them, end a line, or cannot be written."""


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def plain(text: str) -> str:
    """Text of any origin on one line, with whatever could steer a terminal spelled out."""
    return UNSAFE.sub(_escaped, text)


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON. Whatever could steer a terminal is spelled out, which JSON allows; everything else is text as it is."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    lines = text.split("\n") if indent is not None else [text]  # strings hold no line feeds of their own
    return "\n".join(UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", line) for line in lines)


def as_bytes(count: float) -> str:
    """A number of bytes for people: ``512 B``, ``3.4 MiB``."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"
