"""The event types that a store remembers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from varve.codec import event_type, event_type_from_schema, misfits
from varve.engine.catalog import fingerprint
from varve.store import Varve


@dataclass(frozen=True, slots=True)
class StoredSchema:
    """One version of an event type, as the log declares it."""

    number: int
    """The number by which blocks name it, from 0, in order of first append."""
    name: str
    """The type name."""
    version: int
    """1 for the first schema of this name, 2 for the next."""
    fingerprint: bytes
    """16 bytes that tell schemas apart."""
    text: bytes
    """The schema in canonical form: JSON."""

    @property
    def event_class(self) -> Any:
        """An event class made from the schema, which ``varve.schema`` takes like any other: ``varve.schema.to_fbs``,
        ``varve.schema.to_python``, ``varve.schema.source``. The same schema gives the same class."""
        return event_type_from_schema(self.text).cls


def schemas(path: str | os.PathLike[str]) -> list[StoredSchema]:
    """Every event type in a store that this process does not hold open, each version, in order of first append.

    Nothing is written. Raises what ``varve.open(path, readonly=True)`` raises.
    """
    with Varve(path, readonly=True) as db:
        return stored_schemas(db)


def stored_schemas(db: Varve) -> list[StoredSchema]:
    """The same of an open store."""
    found: list[StoredSchema] = []
    versions: dict[str, int] = {}
    engine = db._engine  # noqa: SLF001 - the same library
    with engine.snapshot() as snapshot:
        for number in range(snapshot.record.next_type):
            declared = engine.catalog.type(snapshot, number)
            version = versions[declared.name] = versions.get(declared.name, 0) + 1
            schema = bytes(declared.schema)
            found.append(StoredSchema(number, declared.name, version, fingerprint(schema), schema))
    return found


@dataclass(frozen=True, slots=True)
class SchemaCheck:
    """What a store says to an event class."""

    name: str
    """The type name."""
    versions: int
    """Versions of it that the store remembers; 0: the type is new to it."""
    version: int | None
    """The one that is exactly this class, from 1; None where it would be another."""
    reasons: tuple[str, ...]
    """Why the store refuses it: everything that is incompatible. Empty where it would be accepted."""

    @property
    def accepted(self) -> bool:
        """Whether ``db.stream`` would take the class."""
        return not self.reasons


def check_schema(db: Varve, cls: Any) -> SchemaCheck:
    """Whether an open store would take an event class, and if not, every reason. Nothing is written.

    Raises ``SchemaError`` for a class that is no event class.
    """
    one = event_type(cls)
    stored = [schema.text for schema in stored_schemas(db) if schema.name == one.name]
    same = stored.index(one.schema_bytes) + 1 if one.schema_bytes in stored else None
    return SchemaCheck(one.name, len(stored), same, tuple(misfits(stored, one.schema_bytes)))
