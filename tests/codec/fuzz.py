"""Mutated buffers: MalformedEvent, or an event that can be read completely. Nothing else, and soon.

The tests run a bounded share of it. For many more, with a seed that is printed and gives the same buffers again:

    make fuzz ARGS="--minutes 15 --seed 4711"
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codec_models import Cash, Numbers, OrderPlaced, Tree, envelope, events_of, everything, ledger
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from varve.codec import event_type, owned, to_json
from varve.errors import MalformedEvent

SAMPLES = [
    OrderPlaced(12345, "Laptop", 1, 99900),
    Cash(),
    Numbers(1, 2, 3, 4, -5, -6, -7, -8, 9, 1.5, 0.25, True),
    Tree(1, (Tree(2), Tree(3, (Tree(4),))), Tree(5)),
    everything(),
    everything(maybe_int=1, maybe_bool=False, maybe_text="t", maybe_numbers=(1.0,), refund=Cash(), maybe_lines=()),
    ledger(),
    envelope(),
]

WORDS = (0, 1, 2, 4, 8, 12, 64, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1)


def read_fields(compiled: Any, data: bytes) -> tuple[Any, Any]:
    """A view of an accepted event, and what it holds, every field of it read."""
    view = compiled.view(data + bytes(-len(data) % 8))
    return view, owned(view)


def read_everything(compiled: Any, data: bytes) -> None:
    """All that a user may do with an accepted event."""
    view, out = read_fields(compiled, data)
    assert out == view
    hash(view)
    repr(view)
    to_json(view)
    compiled.digest(view)
    compiled.verify(compiled.pack(view))


def accepted(compiled: Any, data: bytes, read: Callable[[Any, bytes], Any] = read_everything) -> bool:
    """Whether the verifier takes the bytes; then all of the event was read. Any exception is a finding."""
    try:
        compiled.verify(data)
    except MalformedEvent:
        return False
    read(compiled, data)
    return True


def mutation(data: bytes, chance: random.Random) -> bytes:
    """A few bits, bytes, halves of words and words changed, moved or left out; perhaps cut."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        size = len(out)
        at = chance.randrange(size) if size else 0
        match chance.randrange(8):
            case 0 if size:
                out[at] ^= 1 << chance.randrange(8)
            case 1 if size:
                out[at] = chance.choice((0, 1, 4, 127, 128, 255))
            case 2 if size >= 4:
                word = chance.choice((*WORDS, size, at))
                struct.pack_into("<I", out, min(at, size - 4) & ~3, word)
            case 3 if size >= 4:  # vtables are made of these
                half = chance.choice((0, 2, 4, 5, 6, 8, 12, 16, 2**16 - 2, 2**16 - 1))
                struct.pack_into("<H", out, min(at, size - 2) & ~1, half)
            case 4 if size >= 8:  # an offset that moves a little: to a neighbour, or off its alignment
                here = min(at, size - 4) & ~3
                word = struct.unpack_from("<I", out, here)[0] + chance.choice((-8, -4, -2, -1, 1, 2, 4, 8))
                struct.pack_into("<I", out, here, word % 2**32)
            case 5 if size >= 8:  # an offset to what something else points to, too
                here, there = min(at, size - 4) & ~3, chance.randrange(size - 3) & ~3
                word = there + struct.unpack_from("<I", out, there)[0] - here
                struct.pack_into("<I", out, here, word % 2**32)
            case 6 if size >= 8:
                there = chance.randrange(size - 3) & ~3
                out[at & ~3 : (at & ~3) + 4] = out[there : there + 4]
            case 7 if size >= 8:
                if chance.randrange(2):
                    del out[at & ~3 : (at & ~3) + 4]
                else:
                    out[at & ~3 : at & ~3] = bytes(4)
            case _:
                pass
    return bytes(out[: chance.randrange(len(out) + 1)] if out and chance.randrange(8) == 0 else out)


def shapes(number: int, chance: random.Random, examples: int = 60) -> list[tuple[Any, bytes]]:
    """What to mutate: every sample, and events of random classes; as we write them and as the official Builder does."""
    sys.path.insert(0, str(Path(__file__).parent / "conformance"))
    from generated import event_classes
    from official import official

    events: list[Any] = list(SAMPLES)

    @given(event_classes(), st.data())
    @seed(number)
    @settings(
        max_examples=examples,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def draw(cls: Any, data: st.DataObject) -> None:
        events.append(data.draw(events_of(cls)))

    draw()
    found = []
    for one in events:
        compiled = event_type(type(one))
        found += [(compiled, compiled.pack(one)), (compiled, official(type(one), one, chance))]
    return found


def tried(compiled: Any, data: bytes, read: Callable[[Any, bytes], Any]) -> tuple[bool, float]:
    """Whether it was accepted, and how many seconds of this thread that took."""
    before = time.thread_time()
    found = accepted(compiled, data, read)
    return found, time.thread_time() - before


def finding(compiled: Any, data: bytes) -> Exception | None:
    """What went wrong with a buffer that is neither refused nor readable."""
    try:
        accepted(compiled, data)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is what is looked for)
        return error
    return None


def main(arguments: list[str]) -> int:
    """Mutate until the time is over; 1 after a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--every", type=int, default=16, help="of how many accepted events one goes through everything")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    asked = parser.parse_args(arguments)
    print(f"seed {asked.seed}", flush=True)
    chance = random.Random(asked.seed)
    targets = shapes(asked.seed, chance)
    end = time.monotonic() + 60 * asked.minutes
    count = passed = thorough = 0
    slowest = 0.0
    while time.monotonic() < end:
        compiled, data = chance.choice(targets)
        for _ in range(200):
            broken = mutation(data, chance)
            read = read_everything if passed >= thorough * asked.every else read_fields
            try:
                found, seconds = tried(compiled, broken, read)
            except Exception as error:  # noqa: BLE001  (whatever it is, it is what is looked for)
                what = f"{compiled.name}: {error!r}\n{compiled.schema_bytes.decode()}\n{broken.hex()}"
                print(f"after {count} buffers, of {what}")
                return 1
            count += 1
            passed += found
            thorough += found and read is read_everything
            slowest = max(slowest, seconds)
    read = f"{passed:,} accepted and read completely, {thorough:,} of them also compared, printed and packed again"
    print(f"{count:,} buffers of {len(targets)} events, {read}, slowest {slowest:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
