"""What the soak asserts of the log, of each tail, of each writer; each check fails by ``Difference``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby, zip_longest
from operator import attrgetter

from torture.soak.rows import (
    ASYNC,
    BATCHES,
    FOLLOWED_ID,
    LAST,
    SOLE,
    STEADY,
    STREAMS,
    TRANSACTIONS,
    TYPES,
    Ack,
    Row,
    Shipped,
)


class Difference(AssertionError):
    """Something is missing, repeated, out of order or altered."""


_operation = attrgetter("writer", "life", "caller", "number")


def is_expected(tail: str, row: Row, begun: int = 0, when_ns: int = 0) -> bool:
    """Whether a tail has to give it: ``begun`` is where one from ``varve.END`` began, ``when_ns`` an instant."""
    match tail:
        case "end":
            return row.sequence >= begun
        case "time":
            return row.time_ns >= when_ns
        case "streams":
            return row.stream == STREAMS.index("payments")
        case "types":
            return row.type == TYPES.index(Shipped)
        case "one" | "follow-one":
            return row.stream == STREAMS.index("orders") and row.stream_id == FOLLOWED_ID
        case "all" | "follow":
            return True
    raise ValueError(tail)


def check_tail(tail: str, got: Iterable[Row], expected: Iterable[Row]) -> int:
    """Every row, once, in order, unaltered; how many."""
    last = -1
    count = 0
    for one, other in zip_longest(got, expected):
        if one != other:
            what = "altered"
            if one is None or other is None:
                what = "missing at the end" if one is None else "too much at the end"
            elif one.sequence != other.sequence:
                what = "there before" if one.sequence <= last else "in the place of what is missing or late"
            raise Difference(f"{tail}: {one or other} is {what}; there should be {other}")
        last = one.sequence
        count += 1
    return count


def check_consumer(name: str, got: Iterable[Row], expected: Iterable[Row]) -> int:
    """Every row at least once, in order: after a kill it goes back to what was stored, and never past what it was not given.
    How many were given again."""
    given: list[Row] = []
    again = 0
    for row in got:
        if row.sequence > len(given):
            raise Difference(f"{name}: {row} was given, and {len(given)} was not")
        if row.sequence == len(given):
            given.append(row)
        elif given[row.sequence] != row:
            raise Difference(f"{name}: {row} is altered; it was {given[row.sequence]}")
        else:
            again += 1
    check_tail(name, given, expected)
    return again


def check_log(log: Iterable[Row]) -> int:
    """Sequences without gaps, of the log and of each stream; times that never go back; operations whole, each a commit.
    How many operations."""
    done: set[tuple[int, int, int, int]] = set()
    for operation, rows in groupby(_in_sequence(log), _operation):
        parts = list(rows)
        if operation in done:
            raise Difference(f"{parts[0]} is a second time there, or apart from its others")
        done.add(operation)
        if [row.part for row in parts] != list(range(parts[0].of)):
            raise Difference(f"{parts[0]}: of its {parts[0].of} parts there are {[row.part for row in parts]}")
        if {row.commit for row in parts} != {parts[0].sequence}:
            raise Difference(f"{parts[0]}: its parts are of commits {sorted({row.commit for row in parts})}")
    return len(done)


def _in_sequence(log: Iterable[Row]) -> Iterator[Row]:
    lengths: Counter[tuple[int, int]] = Counter()
    time_ns = 0
    for sequence, row in enumerate(log):
        stream = (row.stream, row.stream_id)
        if row.sequence != sequence or row.stream_sequence != lengths[stream]:
            raise Difference(f"{row} should be global sequence {sequence}, stream sequence {lengths[stream]}")
        if row.time_ns < time_ns:
            raise Difference(f"{row} is older than the one before")
        time_ns = row.time_ns
        lengths[stream] += 1
        yield row


def check_writer(writer: int, log: Iterable[Row], acks: Iterable[Ack]) -> int:
    """What it was told is written is where it was told; each caller's operations are in its order; the repeated ones are
    complete. The number of operations that are in the log and that it was not told of."""
    firsts = {_operation(row): row.sequence for row in log if row.writer == writer and row.part == 0}
    told = set()
    for ack in acks:
        operation = (writer, ack.life, ack.caller, ack.number)
        if firsts.get(operation) != ack.sequence:
            raise Difference(f"{ack} was told, but there is {firsts.get(operation)}")
        if operation in told:
            raise Difference(f"{ack} was told twice")
        told.add(operation)
    numbers: dict[tuple[int, int], int] = {}
    for _, life, caller, number in firsts:
        before = numbers.get((life, caller), -1)
        if number <= before:
            raise Difference(f"writer {writer}, life {life}, caller {caller}: {number} came behind {before}")
        if writer in {SOLE, TRANSACTIONS} and number != before + 1:
            raise Difference(
                f"writer {writer}: {number} follows {before}, though every one is repeated until it is told"
            )
        numbers[life, caller] = number
    return len(firsts) - len(told)


WRITERS = {
    "single": SOLE,
    "batches": BATCHES,
    "async": ASYNC,
    "transactions": TRANSACTIONS,
    "last": LAST,
    "steady": STEADY,
}
"""Who writes what, by the name of the process."""
