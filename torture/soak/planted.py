"""Faults for the soak's checks: logs, tails, writers and measurements that are wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torture.part import Control
from torture.soak.bounds import Instants, Sample, growth
from torture.soak.checks import Difference, check_consumer, check_log, check_tail, check_writer
from torture.soak.rows import SOLE, Ack, Row


def rows(count: int = 20) -> list[Row]:
    """A sound log."""
    return [Row(n, n // 2, n, n, n % 2, 3, 0, SOLE, 0, 0, n, 0, 1, 0) for n in range(count)]


TAILS = {
    "gap": [*rows()[:5], *rows()[6:]],
    "repeat": [*rows()[:6], *rows()[5:]],
    "swapped pair": [*rows()[:5], rows()[6], rows()[5], *rows()[7:]],
    "missing end": rows()[:-1],
    "end twice": [*rows(), rows()[-1]],
    "altered content": [*rows()[:5], rows()[5]._replace(crc=1), *rows()[6:]],
}
CONSUMERS = {
    "gap": TAILS["gap"],
    "missing end": TAILS["missing end"],
    "altered content": TAILS["altered content"],
    "altered the second time": [*rows()[:6], rows()[5]._replace(crc=1), *rows()[6:]],
}
BATCH = [Row(n, n, 0, 0, 0, 3, 0, 1, 0, 0, 7, n, 4, 0) for n in range(4)]
LOGS = {
    "gap": TAILS["gap"],
    "swapped pair": TAILS["swapped pair"],
    "stream sequence": [*rows()[:5], rows()[5]._replace(stream_sequence=9), *rows()[6:]],
    "time": [*rows()[:5], rows()[5]._replace(time_ns=0), *rows()[6:]],
    "operation twice": [*rows()[:5], rows()[5]._replace(number=3), *rows()[6:]],
    "torn batch": BATCH[:3],
    "batch of two commits": [*BATCH[:2], *(row._replace(commit=2) for row in BATCH[2:])],
    "parts exchanged": [row._replace(part=3 - row.part) for row in BATCH],
}
TOLD = [Ack(0, 0, n, n) for n in range(20)]
WRITERS = {
    "told and not there": (rows(19), TOLD),
    "told another place": (rows(), [Ack(0, 0, 0, 1)]),
    "told twice": (rows(), [*TOLD, TOLD[3]]),
    "never repeated": ([row for row in rows() if row.number != 4], TOLD[:4]),
    "out of the caller's order": ([*rows(18), rows()[19], rows()[18]], TOLD[:4]),
}


def _noticed(check: Callable[[], object]) -> str:
    try:
        check()
    except Difference as exc:
        return str(exc)[:150]
    return ""


def checks() -> Iterator[Control]:
    """Each planted fault, and whether its check notices."""
    for name, planted in TAILS.items():
        how = _noticed(lambda planted=planted: check_tail("all", planted, rows()))  # type: ignore[misc]
        yield Control(f"tail: {name}", bool(how), how)
    for name, planted in CONSUMERS.items():
        how = _noticed(lambda planted=planted: check_consumer("consumer", planted, rows()))  # type: ignore[misc]
        yield Control(f"consumer: {name}", bool(how), how)
    for name, planted in LOGS.items():
        how = _noticed(lambda planted=planted: check_log(planted))  # type: ignore[misc]
        yield Control(f"log: {name}", bool(how), how)
    for name, (log, acks) in WRITERS.items():
        how = _noticed(lambda log=log, acks=acks: check_writer(SOLE, log, acks))  # type: ignore[misc]
        yield Control(f"writer: {name}", bool(how), how)


def steady(*, memory: float = 0.0, descriptors: float = 0.0, noise: int = 500_000) -> list[Sample]:
    """Samples of a minute, five a second, that grow by so much a second."""
    return [
        Sample(
            n / 5, int(30e6 + n / 5 * memory + (n * 7919 % 13 - 6) / 6 * noise), int(12 + n / 5 * descriptors + n % 2)
        )
        for n in range(300)
    ]


def measurements() -> Iterator[Control]:
    """Growth that is planted in numbers."""
    sound = growth("sound", steady())
    yield Control("numbers: nothing grows", not sound, "; ".join(sound))
    for name, samples in {"memory": steady(memory=200_000), "descriptors": steady(descriptors=0.5)}.items():
        told = growth("planted", samples)
        yield Control(f"numbers: {name}", bool(told), "; ".join(told))
    instants = Instants(1.0)
    for second in range(5):
        told = instants.look(second, second * 100, [(7, 150)])
    yield Control("numbers: a snapshot", bool(told), "; ".join(told))
