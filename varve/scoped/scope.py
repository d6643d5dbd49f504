"""A scope: what a handle may do, and how it says no."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from varve import limits
from varve.appends import Metadata, encode_metadata
from varve.errors import InvalidInput, PermissionRefused
from varve.layout.keys import StreamId, check_name, decode_stream_id, encode_stream_id
from varve.layout.ordered import StateKey, decode_key
from varve.layout.records import MalformedRecord
from varve.scoped.keys import Bounds, KeyRight
from varve.scoped.patterns import Extent, Names, Pattern, Patterns, Right, stream_text

if TYPE_CHECKING:
    from varve.engine.request import AppendRequest
    from varve.scoped.audit import Auditor


class Scope:
    """Rights to streams, consumers and keys, metadata that every append gets, and whom to tell what was refused.

    ``check_...`` raise ``PermissionRefused``, and what is wrong with their arguments.
    """

    def __init__(
        self,
        label: str,
        read: Right,
        append: Right,
        state: KeyRight,
        state_read: KeyRight,
        consumers: Names,
        metadata: Metadata,
        auditor: Auditor,
    ) -> None:
        self.label = label
        self.read = read
        self.append = append
        self.state = state  # to change
        self.state_read = state_read  # to read: what can be changed, and more
        self.consumers = consumers
        self.metadata = metadata
        self.auditor = auditor
        self._encoded = encode_metadata(metadata) if metadata else None

    @classmethod
    def first(
        cls,
        label: str,
        *,
        read: Iterable[Pattern],
        append: Iterable[Pattern],
        state: Iterable[StateKey],
        state_read: Iterable[StateKey],
        consumers: Iterable[str] | None,
        metadata: Metadata | None,
        auditor: Auditor,
    ) -> Scope:
        """That of a handle that is made from a store. Raises ``InvalidInput`` and its kin."""
        keys = KeyRight.of(state, "state")
        return cls(
            checked_label(label),
            Right((Patterns(read, "read"),)),
            Right((Patterns(append, "append"),)),
            keys,
            keys | KeyRight.of(state_read, "state_read"),
            Names().narrowed(consumers, "consumers"),
            _plain(metadata),
            auditor,
        )

    def narrowed(
        self,
        label: str | None,
        *,
        read: Iterable[Pattern],
        append: Iterable[Pattern],
        state: Iterable[StateKey],
        state_read: Iterable[StateKey],
        consumers: Iterable[str] | None,
        metadata: Metadata | None,
    ) -> Scope:
        """What is allowed here and by these. Raises ``InvalidInput`` and its kin, ``PermissionRefused`` for metadata that says
        otherwise."""
        if len(self.read.layers) >= limits.SCOPE_DEPTH_MAX:
            raise InvalidInput(
                f"a handle is narrowed at most SCOPE_DEPTH_MAX = {limits.SCOPE_DEPTH_MAX} times: make it from a wider one"
            )
        more = _plain(metadata)
        keys = KeyRight.of(state, "state")
        self._check_agrees(more, "metadata=")
        return Scope(
            self.label if label is None else checked_label(label),
            self.read.narrowed(read, "read"),
            self.append.narrowed(append, "append"),
            self.state.narrowed(keys),
            self.state_read.narrowed(keys | KeyRight.of(state_read, "state_read")),
            self.consumers.narrowed(consumers, "consumers"),
            {**self.metadata, **more},
            self.auditor,
        )

    def __str__(self) -> str:
        parts = [
            f"{what} {', '.join(right.layers[-1].texts)}"
            for what, right in (("read", self.read), ("append", self.append))
            if right.layers[-1].texts
        ]
        for what, keys in (("state", self.state), ("state_read", self.state_read)):
            if keys.texts and (what == "state" or keys.texts != self.state.texts):
                parts.append(f"{what} {', '.join(keys.texts)}")
        if self.consumers.layers:
            parts.append(f"consumers {', '.join(self.consumers.layers[-1])}")
        if len(self.read.layers) > 1:
            parts.append(f"narrowed {len(self.read.layers) - 1}x")
        return "; ".join(parts) or "nothing"

    # -- saying no ---------------------------------------------------------------------------------

    def refusal(
        self, action: str, what: str, allowed: tuple[str, ...] = (), *, why: str = "", verb: str = ""
    ) -> PermissionRefused:
        """The error for an attempt, which is counted and recorded; ``verb`` says it where the action's name is none."""
        self.auditor.refused(self.label, action, what)
        verb = verb or action
        if not why:
            may = f"it may {verb} {', '.join(allowed)}" if allowed else "it may do that with nothing"
            why = f"{may}. Whoever made the handle, with db.scoped(...), can widen it"
        return PermissionRefused(
            f"the scoped handle {self.label!r} may not {verb} {what}: {why}",
            action=action,
            what=what,
            allowed=allowed,
            label=self.label,
        )

    # -- streams -----------------------------------------------------------------------------------

    def check_read(self, name: str, stream_id: StreamId) -> None:
        """Whether a stream may be read."""
        encode_stream_id(stream_id)
        if not self.read.allows(name, stream_id):
            raise self.refusal("read", stream_text(name, stream_id), self.read.refusing(name, stream_id))

    def check_read_name(self, name: str) -> None:
        """Whether any stream of a name may be."""
        if self.read.extent(name) is Extent.NONE:
            raise self.refusal("read", name, self.read.refusing(name, None))

    def check_known(self, name: str) -> None:
        """Whether anything may be done to streams of a name."""
        if self.read.extent(name) is Extent.NONE and self.append.extent(name) is Extent.NONE:
            allowed = (*self.read.refusing(name, None), *self.append.refusing(name, None))
            raise self.refusal("use", name, tuple(dict.fromkeys(allowed)))

    def check_appended(self, append: AppendRequest) -> None:
        """Whether an append call is allowed; its metadata is completed."""
        name = append.stream
        audit = self.auditor.stream
        if audit is not None and name == audit.name:
            raise self.refusal("append", name, why="it is the audit stream, which no scoped handle appends to")
        extent = self.append.extent(name)
        if extent is not Extent.ALL:
            id_keys = dict.fromkeys(id_key for id_key, _, _ in append.parts)
            if append.id_key:
                id_keys[append.id_key] = None
            if extent is Extent.NONE and not id_keys:
                raise self.refusal("append", name, self.append.refusing(name, None))
            for stream_id in map(decode_stream_id, id_keys):
                if not self.append.allows(name, stream_id):
                    raise self.refusal("append", stream_text(name, stream_id), self.append.refusing(name, stream_id))
        if self._encoded is not None:
            if append.metadata is None:
                append.metadata = self._encoded
            else:
                own = json.loads(append.metadata)
                self._check_agrees(own, f"an event of {name} whose metadata")
                append.metadata = encode_metadata({**self.metadata, **own})

    def _check_agrees(self, own: Metadata, what: str) -> None:
        for key, value in self.metadata.items():
            if key in own and own[key] != value:
                raise self.refusal(
                    "append", f"{what} says {key} = {own[key]!r:.80}", why=f"its appends have {key} = {value!r:.80}"
                )

    # -- state -------------------------------------------------------------------------------------

    def check_key(self, key: bytes) -> None:
        """Whether an encoded key of state may be read."""
        if not self.state_read.allows(key):
            raise self.refusal("read state", repr(decode_key(key)), self.state_read.texts)

    def check_changed(self, key: bytes) -> None:
        """Whether it may be changed."""
        if not self.state.allows(key):
            raise self.refusal("change state", repr(decode_key(key)), self.state.texts)

    def cut(self, low: bytes, high: bytes) -> list[Bounds]:
        """What may be read of a range. Raises ``PermissionRefused`` where that is nothing."""
        cuts = self.state_read.cut(low, high)
        if not cuts and low < high:
            raise self.refusal("read state", f"from {_bound(low)} to {_bound(high)}", self.state_read.texts)
        return cuts

    # -- consumers ---------------------------------------------------------------------------------

    def check_consumer(self, name: str) -> None:
        """Whether a consumer may be run, or its position be stored."""
        check_name(name, "consumer name")
        if not self.consumers.allows(str.__str__(name)):
            raise self.refusal("consumer", name, self.consumers.refusing(name), verb="use the consumer")


def checked_label(label: Any) -> str:
    """A label: it is the id of the handle's audit stream. Raises ``InvalidInput``."""
    if not isinstance(label, str):
        raise InvalidInput(f"label= is a str of 1 to 255 UTF-8 bytes, not {label!r:.80}")
    encode_stream_id(label)
    return str.__str__(label)


def _bound(key: bytes) -> str:
    """A bound as text: a key where it is one, not the end of a prefix."""
    try:
        return repr(decode_key(key))
    except MalformedRecord:
        return f"the key {key!r}"


def _plain(metadata: Metadata | None) -> dict[str, Any]:
    """Metadata as it will read back: nobody changes it afterwards. Raises ``InvalidMetadata``."""
    given: dict[str, Any] = {} if metadata is None else json.loads(encode_metadata(metadata))
    return given
