"""The codec alone, without a store: encode and read, against the official FlatBuffers runtime and msgspec.

Nothing waits here, so the clock is the thread's processor time: other processes of a busy machine do not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benches.codec import msgspec_peer, official
from benches.codec.shapes import FLAT, NESTED, OPTIONALS, Shape, checksum
from benches.goals import Goal
from benches.lines import Line, exact
from benches.pairs import Pair, Side, compare
from benches.workspace import Workspace
from varve.codec import event_type

ENCODE_GOAL = Goal(at_least=20)
READ_GOAL = Goal(at_least=8)


def _events(work: Workspace) -> int:
    """Events of a round: many enough that no cache of layouts or of processor knows them all."""
    return max(work.size.events // 50, 200)


def encode(shape: Shape, work: Workspace) -> Iterator[Line]:
    """Ready instances to bytes; what was encoded is read back and compared."""
    case, count = f"codec/encode-{shape.name}", _events(work)
    compiled, events, values = event_type(shape.cls), shape.events(count), shape.values
    theirs = official.ENCODE[shape.name]

    def read_back(_: Any, buffers: list[Any]) -> object:
        return checksum(values(compiled.view(bytes(buffer))) for buffer in buffers)

    ours = Side("pack_all", lambda _: compiled.pack_all(events), read_back)
    one_by_one = Side("pack", lambda _: [pack(event) for event in events], read_back)
    pack = compiled.pack
    builder = Side("Builder", lambda _: [theirs(event) for event in events], read_back)
    for name, side, goal in (("", ours, ENCODE_GOAL), (", one call each", one_by_one, Goal())):
        pair = compare(side, builder, rounds=work.size.rounds, clock=time.thread_time)
        what = f"{shape.what}: encode{name} against the official Builder"
        yield _line(case, what, goal, pair, count)
    yield from _msgspec(case, shape, work, ours, f"{shape.what}: encode", encoding=True)


def read(shape: Shape, work: Workspace) -> Iterator[Line]:
    """Bytes to a view, and every value out of it, as a reader's loop does it."""
    case, count = f"codec/read-{shape.name}", _events(work)
    compiled, values = event_type(shape.cls), shape.values
    buffers = compiled.pack_all(shape.events(count))
    theirs = official.READ[shape.name]
    new, view_class = object.__new__, compiled.view_class

    def views(_: Any) -> None:
        for buffer in buffers:
            event = new(view_class)
            event._b = buffer  # noqa: SLF001 - a reader's hot path, documented at EventType.view_class
            event._o = 0  # noqa: SLF001
            values(event)

    # What was read is dropped at once, as in a replay: keeping it would measure the garbage collector. The checksum reads anew.
    ours = Side("view", views, lambda *_: checksum(values(compiled.view(buffer)) for buffer in buffers))
    accessors = Side("accessors", partial(_each, theirs, buffers), lambda *_: checksum(map(theirs, buffers)))
    pair = compare(ours, accessors, rounds=work.size.rounds, clock=time.thread_time)
    yield _line(case, f"{shape.what}: read every value against the official accessors", READ_GOAL, pair, count)
    yield from _msgspec(case, shape, work, ours, f"{shape.what}: read every value", encoding=False)


def _msgspec(case: str, shape: Shape, work: Workspace, ours: Side, what: str, *, encoding: bool) -> Iterator[Line]:
    """For information; one line that says why where msgspec is missing."""
    reason = msgspec_peer.missing()
    if reason is not None:
        yield Line(case, f"{what} against msgspec: skipped", "none", Goal(), exact(0.0), "x as fast", reason)
        return
    values = shape.values
    for name in msgspec_peer.FORMATS:
        peer = msgspec_peer.peer(shape, name, _events(work))
        texts = list(map(peer.encode, peer.events))
        if encoding:
            run: Callable[[Any], Any] = partial(_encode_all, peer.encode, peer.events)
        else:
            run = partial(_read_all, peer.decode, values, texts)
        side = Side(f"msgspec {name}", run, partial(_sum_decoded, peer.decode, values, texts))
        pair = compare(ours, side, rounds=work.size.rounds, clock=time.thread_time)
        yield _line(case, f"{what} against msgspec, {name}", Goal(), pair, _events(work))


def _each(read_one: Any, buffers: list[bytes], _: Any) -> None:
    for buffer in buffers:
        read_one(buffer)


def _encode_all(encode_one: Any, events: list[Any], _: Any) -> list[bytes]:
    return [encode_one(event) for event in events]


def _read_all(decode: Any, values: Any, texts: list[bytes], _: Any) -> None:
    for text in texts:
        values(decode(text))


def _sum_decoded(decode: Any, values: Any, texts: list[bytes], _: Any, encoded: list[bytes] | None) -> object:
    return checksum(values(decode(text)) for text in encoded or texts)


def _line(case: str, what: str, goal: Goal, pair: Pair, count: int) -> Line:
    """A pair as ``x as fast``, with the nanoseconds that both sides take for an event."""
    nanos = [sorted(side)[len(side) // 2] / count * 1e9 for side in (pair.a_s, pair.b_s)]
    return Line(case, what, "none", goal, pair.speed, "x as fast", f"{nanos[0]:,.0f} ns against {nanos[1]:,.0f} ns")


CASES: dict[str, Callable[[Workspace], Iterator[Line]]] = {
    f"codec/{name}-{shape.name}": partial(case, shape)
    for name, case in (("encode", encode), ("read", read))
    for shape in (FLAT, NESTED, OPTIONALS)
}
