"""``varve seal``: a store that is read-only for good."""

from __future__ import annotations

from typing import Final

from varve import ops
from varve.cli.common import JsonOption, StoreArgument, console, print_json, progress

__all__ = ["EPILOG", "seal"]

EPILOG: Final = "Example: varve seal ./data-2025"


def seal(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Make a store read-only for good; nobody may have it open."""
    with progress("Sealing") as told:
        report = ops.seal(store, progress=told)
    if as_json:
        print_json(
            {
                "store_uuid": str(report.store_uuid),
                "first_sequence": report.first_sequence,
                "next_sequence": report.next_sequence,
                "content_digest": report.content_digest,
                "sealed_at_ns": report.sealed_at_ns,
                "is_new": report.is_new,
            }
        )
        return
    state = "sealed" if report.is_new else "was sealed before"
    console().print(f"{store}: {state}, up to sequence {report.next_sequence:,}, content {report.content_digest}")
