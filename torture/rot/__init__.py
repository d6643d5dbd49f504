"""Rot: damaged files. A host that opens one with ``trust=False`` survives and is given nothing that was not written.

A unit is one damaged file, made from the seed and its number alone.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from unittest import mock

import varve
from torture import farm, stores
from torture.part import Budget, Control, Outcome, Progress, Violation
from torture.rot import host
from torture.rot.damage import KINDS, MIXED, damaged
from torture.rot.host import Died, in_child
from torture.rot.originals import Original, originals
from torture.rot.reading import Contents, append_after, contents_of, read_everything, read_what_is_left, where_of
from varve.engine import examine
from varve.errors import IntegrityError, StoreUnavailable, VarveError

REAL_EVERY = 500
"""Of so many files one is examined by a fresh Python, as users have it; the others by a fork."""

_SHM = Path("/dev/shm")


class Case:
    """One damaged file and what came of it."""

    def __init__(
        self, all_of: list[Original], seed: int, number: int, path: Path, kinds: tuple[str, ...] = tuple(KINDS)
    ) -> None:
        self.chance = random.Random(seed << 48 | number)
        self.kind, self.original, self.image = damaged(all_of, self.chance, kinds)
        self.others = [one for one in all_of if one is not self.original] if self.kind == MIXED else []
        self.path = path
        stores.remove(path)
        path.mkdir()
        (path / "data.mdb").write_bytes(self.image)

    def judge(self, counts: Counter[str]) -> str | None:
        """Open it without trust, then (where that is refused) with trust; what was wrong, or None."""
        if self.image == self.original.image:
            counts["unchanged"] += 1
            return None
        accepted, wrong = self._untrusted(counts)
        if wrong is not None:
            return f"{self.kind} of {self.original.name}: {wrong}"
        if not accepted:
            wrong = self._trusted(counts)
        return None if wrong is None else f"{self.kind} of {self.original.name}: {wrong}"

    def _untrusted(self, counts: Counter[str]) -> tuple[bool, str | None]:
        counts[f"{self.kind}: files"] += 1
        real = self.chance.randrange(REAL_EVERY) == 0
        counts["examined by a fresh Python"] += real
        try:
            with nullcontext() if real else mock.patch.object(examine, "_run", host.forked):
                db = varve.open(self.path, trust=False)
        except (IntegrityError, StoreUnavailable) as error:
            counts[f"{self.kind}: refused"] += 1
            counts[f"refused: {_why(error)}"] += 1
            return False, None
        with db:
            contents = contents_of(db)
            original = self._original_of(contents)
            if original is None:
                return True, f"passed for sound with {contents}, which it never was"
            counts["a known limit: became the other store"] += original is not self.original
            known = "a known limit: consumers stand where they once stood, or stand in the other store"
            counts[known] += contents not in original.states
            read = read_everything(db, original.rows, self.chance)
            if read != contents:
                return True, f"{contents} became {read} while it was read"
            append_after(db, contents.events)
        now = contents == self.original.states[-1]
        counts[f"{self.kind}: {'slack' if now else 'an older state'}"] += 1
        return True, None

    def _original_of(self, contents: Contents) -> Original | None:
        """The store that held this after some commit: this one, or the other one of two that were mixed. Its events are those
        after one commit, its consumers perhaps those after another: a page of their table that is put back as it was, or comes
        from the other store, is right by all its checksums."""
        for original in (self.original, *self.others):
            consumers = self.others or any(contents.consumers == state.consumers for state in original.states)
            if consumers and any(contents.events == state.events for state in original.states):
                return original
        return None

    def _trusted(self, counts: Counter[str]) -> str | None:
        """The default open, in a process that may die."""
        stores.remove(self.path)
        self.path.mkdir()
        (self.path / "data.mdb").write_bytes(self.image)
        rows = self.original.rows

        def work() -> dict[str, object]:
            try:
                with varve.open(self.path) as db:
                    return read_what_is_left(db, rows)._asdict()
            except VarveError as error:
                return {"opened": error.code}
            except Exception as error:  # noqa: BLE001 - whatever it is, it should have had a type
                return {
                    "right": 0,
                    "refused": 0,
                    "misnamed": 0,
                    "wrong": [],
                    "untyped": [f"at open: {where_of(error)}"],
                }

        try:
            said = in_child(work)
        except Died as how:
            counts[f"trusted: died of {how} ({self.kind})"] += 1
            return None
        if "opened" in said:
            counts["trusted: refused at open"] += 1
            return None
        counts["trusted: opened"] += 1
        counts["trusted: events right"] += said["right"]
        counts["trusted: a known limit: fields named by a damaged schema"] += bool(said["misnamed"])
        counts["trusted: reads refused"] += said["refused"]
        if (said["wrong"] or said["untyped"]) and self.kind == MIXED:
            counts["trusted: a known limit: events of the other store"] += 1  # whose checksums are right
        elif said["wrong"]:
            return f"trusted, and wrong: {said['wrong'][0]}"
        elif said["untyped"]:
            return f"trusted, an error without a type: {said['untyped'][0]}"
        return None


def _why(error: VarveError) -> str:
    findings = getattr(error, "findings", ())
    return findings[0].split(":")[0] if findings else error.code


class Rot:
    """The part."""

    name = "rot"
    unit = "damaged files"
    goal = 100_000
    small = 80

    def __init__(
        self,
        sizes: tuple[int, ...] = (3, 6, 10, 16, 30),
        kinds: tuple[str, ...] = tuple(KINDS),
        forge: Callable[[list[Original]], None] = lambda _: None,
    ) -> None:
        self.sizes = sizes
        self.kinds = kinds
        self.forge = forge

    def run(self, budget: Budget, progress: Progress, *, findings_max: int = farm.FINDINGS_MAX) -> Outcome:
        """Every file that the seed makes."""
        with tempfile.TemporaryDirectory(prefix="varve-rot-", dir=_SHM if _SHM.is_dir() else budget.folder) as fast:
            all_of = originals(budget.seed, Path(fast), self.sizes)
            self.forge(all_of)
            here = [Path(fast) / "none"]

            def begin(index: int) -> None:
                here[0] = Path(fast) / f"case-{index}"

            def unit(number: int, counts: Counter[str]) -> str | None:
                return Case(all_of, budget.seed, number, here[0], self.kinds).judge(counts)

            harvest = farm.run(
                unit,
                range(budget.first, budget.first + budget.count),
                jobs=budget.jobs,
                folder=budget.folder,
                progress=progress,
                wall_s=90.0,
                begin=begin,
                findings_max=findings_max,
            )
        violations = [
            Violation(what, f"python -m torture rot --seed {budget.seed} --first {number} --count 1 --no-controls")
            for number, what in harvest.findings
        ]
        return Outcome(harvest.done, violations, dict(sorted(harvest.counts.items())))

    def controls(self, budget: Budget) -> Iterator[Control]:
        """Checks left out, an examination in the host itself, a checker that knows better."""
        crc = "a block's checksum is not checked"
        yield _control(budget, crc, Rot((30,), ("bit flips",)), 300, *_everywhere("crc_holds", lambda _: True))
        index = "index and metadata are not compared"
        compare = mock.patch("varve.ops.verify._Verification._compare", lambda *_: None)
        yield _control(budget, index, Rot((16,), ("entries of pages", "bit flips")), 600, compare)
        yield _control(budget, "an event is expected that never was", Rot((8,), ("bit flips",), _forged), 20)
        inside = mock.patch.object(host, "forked", host.in_process)
        yield _control(budget, "the examination is in the host", Rot((30,), ("oversized values",)), 60, inside)


def _everywhere(name: str, stand_in: object) -> list[AbstractContextManager[object]]:
    return [
        mock.patch(f"varve.{where}.{name}", stand_in)
        for where in ("ops.verify", "engine.checked", "engine.checking", "engine.commit")
    ]


def _forged(all_of: list[Original]) -> None:
    rows = all_of[0].rows
    rows[0] = rows[0]._replace(event=rows[0].event.replace("1", "2"))


def _control(budget: Budget, what: str, rot: Rot, within: int, *patches: AbstractContextManager[object]) -> Control:
    folder = budget.folder / f"control-{len(list(budget.folder.iterdir()))}"
    folder.mkdir()
    own = Budget(count=within, seed=budget.seed, folder=folder, jobs=budget.jobs)
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        found = rot.run(own, lambda _: None, findings_max=1)
    how = found.violations[0].what[:140] if found.violations else f"{found.count:,} files and nothing found"
    return Control(what, bool(found.violations), how)


PART = Rot()

__all__ = ["PART", "Case", "Rot"]
