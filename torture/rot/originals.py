"""Stores that were never damaged, what they hold, and every state that they were in on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import varve
from torture import stores
from torture.rot.reading import Contents, Row, read_through

PAGE = 4096


@dataclass(slots=True)
class Original:
    """A sound store."""

    name: str
    image: bytes
    """Its data file."""
    rows: list[Row]
    """Every event that was ever in it, by global sequence."""
    states: list[Contents]
    """What it held after each commit, oldest first: how many events, and where consumers stood."""
    images: list[bytes] = field(default_factory=list)
    """The data file after each commit."""

    @property
    def pages(self) -> int:
        """How many there are."""
        return len(self.image) // PAGE


def originals(seed: int, folder: Path, sizes: tuple[int, ...] = (3, 6, 10, 16, 30)) -> list[Original]:
    """A few stores, from next to nothing to some hundred events."""
    found = []
    for number, steps in enumerate(sizes):
        path = folder / f"original-{number}"
        images: list[bytes] = []

        def stage(path: Path = path, images: list[bytes] = images) -> None:
            images.append(stores.image(path))

        stores.fill(path, seed + number, steps, batches=(2, 5, 12), stage=stage)
        images.append(stores.image(path))
        states = [_contents(folder / "state", image) for image in images]
        rows, contents = _read(path)
        if contents != states[-1]:
            raise RuntimeError(f"a store that is read again holds something else: {contents}, {states[-1]}")
        found.append(Original(f"store {number}", images[-1], rows, states, images))
    return found


def _contents(path: Path, image: bytes) -> Contents:
    path.mkdir(exist_ok=True)
    (path / "data.mdb").write_bytes(image)
    _, contents = _read(path)
    stores.remove(path)
    return contents


def _read(path: Path) -> tuple[list[Row], Contents]:
    with varve.open(path) as db:
        return read_through(db)
