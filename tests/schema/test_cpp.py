"""C++ reads what Varve writes: the example of docs/schemas.md, and the official verifier over every mapped type."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from codec_models import Envelope, Everything, Ledger, OrderPlaced, Tree, events_of, everything
from fuzz import SAMPLES, mutation, shapes
from hypothesis import HealthCheck, given, settings

import varve
from varve.codec import event_type
from varve.errors import MalformedEvent
from varve.schema import to_fbs

ROOT = Path(__file__).parents[2]


def missing(*headers: str) -> str:
    """What a compiled test needs and this machine has not."""
    tools = [tool for tool in ("flatc", "g++") if shutil.which(tool) is None]
    return ", ".join(tools + [h for h in headers if not (Path("/usr/include") / h).exists()])


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@varve.event
class Shipped:
    order_id: varve.u64


def test_the_example_prints_the_orders_of_a_store(tmp_path: Path, varve_path: Path) -> None:
    """Several blocks, streams and types; the C++ program finds each order at its sequence."""
    if lack := missing("lmdb.h", "flatbuffers/flatbuffers.h"):
        pytest.skip(f"needs {lack}")
    want = []
    with varve.open(varve_path) as db:
        orders = db.stream("orders", OrderPlaced)
        shipped = db.stream("shipped", Shipped)
        for n in range(600):
            found = orders.append(n % 7, OrderPlaced(n, f"product {n}" * (n % 5), n % 3, 2**63 + n))
            want.append(f"{found.global_sequence} {n} {f'product {n}' * (n % 5)} {n % 3} {2**63 + n}")
            if n % 4 == 0:
                shipped.append(n, Shipped(n))
    (tmp_path / "orders.fbs").write_text(to_fbs(OrderPlaced))
    run(tmp_path, "flatc", "--cpp", str(ROOT / "schemas" / "varve.fbs"), "orders.fbs")
    source = str(ROOT / "examples" / "cpp" / "read_log.cpp")
    run(tmp_path, "g++", "-std=c++17", "-O0", "-I.", source, "-o", "read_log", "-llmdb")
    assert run(tmp_path, "./read_log", str(varve_path)).splitlines() == want


VERIFIER = """
#include "everything_generated.h"
#include "tree_generated.h"
#include <fstream>
#include <iterator>
#include <string>
#include <vector>
int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    std::ifstream file(argv[i], std::ios::binary);
    std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    std::vector<uint64_t> aligned(bytes.size() / 8 + 1);
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char *>(aligned.data()));
    flatbuffers::Verifier verifier(reinterpret_cast<const uint8_t *>(aligned.data()), bytes.size(), 128);
    bool fine = std::string(argv[i])[0] == 'E' ? everything::VerifyEverythingBuffer(verifier) : tree::VerifyTreeBuffer(verifier);
    if (!fine) { puts(argv[i]); return 1; }
  }
}
"""


def write_events(cls: Any, folder: Path) -> list[str]:
    """Random events and the schema of a class; gives the names of the files."""
    written: list[str] = []

    @given(events_of(cls))
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def write(one: Any) -> None:
        name = f"{cls.__name__}{len(written)}.bin"
        (folder / name).write_bytes(event_type(cls).pack(one))
        written.append(name)

    write()
    name = cls.__name__.lower()
    (folder / f"{name}.fbs").write_text(f"namespace {name};\n{to_fbs(cls)}")
    return written


def test_the_official_verifier_accepts_what_is_written(tmp_path: Path) -> None:
    """C++'s verifier, with its checks of alignment, on random events of every mapped type."""
    if lack := missing("flatbuffers/flatbuffers.h"):
        pytest.skip(f"needs {lack}")
    written = [name for cls in (Everything, Tree) for name in write_events(cls, tmp_path)]
    (tmp_path / "Ebroken.bin").write_bytes(event_type(Everything).pack(everything())[:-40])
    (tmp_path / "verify.cpp").write_text(VERIFIER)
    run(tmp_path, "flatc", "--cpp", "everything.fbs", "tree.fbs")
    run(tmp_path, "g++", "-std=c++17", "-O0", "-I.", "verify.cpp", "-o", "verify")
    run(tmp_path, "./verify", *written)
    with pytest.raises(AssertionError, match="Ebroken"):
        run(tmp_path, "./verify", "Ebroken.bin")


JUDGE = """
#include <fstream>
#include <iterator>
#include <vector>
int main(int, char **argv) {
  std::ifstream file(argv[1], std::ios::binary);
  std::vector<char> all((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  for (size_t at = 0; at < all.size();) {
    uint32_t shape, size;
    memcpy(&shape, &all[at], 4);
    memcpy(&size, &all[at + 4], 4);
    // A buffer of its own for each, so that reading beyond it is caught where a sanitizer is compiled in.
    std::vector<uint64_t> aligned(size / 8 + 1);
    if (size) memcpy(aligned.data(), &all[at + 8], size);
    at += 8 + size;
    flatbuffers::Verifier verifier(reinterpret_cast<const uint8_t *>(aligned.data()), size);
    bool fine = false;
    switch (shape) { CASES }
    putchar(fine ? '1' : '0');
  }
}
"""


def judge(folder: Path, classes: list[Any]) -> Path:
    """A program that says of each buffer of a file whether the official verifier takes it."""
    cases, includes = [], []
    for number, cls in enumerate(classes):
        name = event_type(cls).name
        (folder / f"s{number}.fbs").write_text(f"namespace s{number};\n{to_fbs(cls)}")
        includes.append(f'#include "s{number}_generated.h"')
        cases.append(f"case {number}: fine = s{number}::Verify{name}Buffer(verifier); break;")
    run(folder, "flatc", "--cpp", *(f"s{number}.fbs" for number in range(len(classes))))
    (folder / "judge.cpp").write_text("\n".join(includes) + JUDGE.replace("CASES", "\n".join(cases)))
    run(folder, "g++", "-std=c++17", "-O0", "-I.", "judge.cpp", "-o", "judge")
    return folder / "judge"


def ours(cls: Any, data: bytes) -> bool:
    try:
        event_type(cls).verify(data)
    except MalformedEvent:
        return False
    return True


def test_what_the_official_verifier_refuses_is_refused(tmp_path: Path) -> None:
    """Mutated buffers of the samples and of random schemas: whatever Varve takes, C++ takes too. Varve is stricter: UTF-8,
    members of unions, alignment of vectors' items, fields inside of their table."""
    if lack := missing("flatbuffers/flatbuffers.h"):
        pytest.skip(f"needs {lack}")
    chance = random.Random(4711)
    targets = [(c.cls, data) for c, data in shapes(11, chance)]
    targets = targets[: 2 * len(SAMPLES)] + targets[2 * len(SAMPLES) :: 5]
    classes = list(dict.fromkeys(cls for cls, _ in targets))
    assert Ledger in classes
    broken = [(cls, mutation(data, chance)) for cls, data in (chance.choice(targets) for _ in range(12_000))]
    # The official verifier looks into nested buffers too.
    nested = [(cls, data) for cls, data in targets if cls is Envelope]
    broken += [(cls, mutation(data, chance)) for cls, data in (chance.choice(nested) for _ in range(4_000))]
    broken += [(cls, data) for cls, data in targets]
    with (tmp_path / "buffers").open("wb") as file:
        for cls, data in broken:
            file.write(struct.pack("<II", classes.index(cls), len(data)) + data)
    program = judge(tmp_path, classes)
    theirs = run(tmp_path, str(program), "buffers")
    assert len(theirs) == len(broken)
    verdicts = [(ours(cls, data), their == "1") for (cls, data), their in zip(broken, theirs, strict=True)]
    wrong = [
        (cls.__name__, data.hex())
        for (cls, data), (mine, their) in zip(broken, verdicts, strict=True)
        if mine and not their
    ]
    assert wrong == []
    for verdict in ((True, True), (False, False), (False, True)):
        assert verdicts.count(verdict) > 100, "the mutations reach every kind of verdict"
