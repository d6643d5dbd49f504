"""Recorded events as plain data."""

from __future__ import annotations

import base64
from typing import Any
from uuid import UUID

from varve.codec import event_type, to_dict
from varve.errors import VarveError
from varve.record import Recorded
from varve.unknown import UnknownEvent


def type_name_of(recorded: Recorded[Any]) -> str:
    """The store-wide name of an event's type, also of one that cannot be decoded."""
    event = recorded.event
    if isinstance(event, UnknownEvent):
        return event.type_name
    return event_type(recorded.type).name


def recorded_to_dict(recorded: Recorded[Any]) -> dict[str, Any]:
    """A recorded event as JSON-able data, as ``varve log --json`` prints it.

    ``global_sequence``, ``stream``, ``stream_id`` (a UUID as text), ``id_kind`` (``int``, ``str`` or ``uuid``),
    ``stream_sequence``, ``type``, ``recorded_at`` (ISO 8601, UTC, microseconds), ``metadata`` (None where there is none), and
    ``event`` as ``varve.to_dict`` gives it. Where it cannot be decoded ``event`` is None, ``error`` says why and ``raw`` has
    its bytes as base64.
    """
    stream_id = recorded.stream_id
    event = recorded.event
    out: dict[str, Any] = {
        "global_sequence": recorded.global_sequence,
        "stream": recorded.stream,
        "stream_id": str(stream_id) if isinstance(stream_id, UUID) else stream_id,
        "id_kind": type(stream_id).__name__.lower(),
        "stream_sequence": recorded.stream_sequence,
        "type": type_name_of(recorded),
        "recorded_at": recorded.recorded_at.isoformat(timespec="microseconds"),
        "metadata": recorded.metadata,
    }
    try:
        if not isinstance(event, UnknownEvent):
            return out | {"event": to_dict(event)}
        problem = "the schema in the log is a newer Varve's"
    except VarveError as error:
        problem = error.message
    return out | {"event": None, "error": problem, "raw": base64.b64encode(recorded.raw).decode()}
