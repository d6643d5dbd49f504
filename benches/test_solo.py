"""``python -m pytest benches``: Varve's calls under pytest-benchmark, in groups; VARVE_BENCH_SIZE is quick, full or tiny."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from benches.solo import SOLOS, Solo
from benches.workspace import SIZES, Workspace, workspace

ROUNDS = 5


@pytest.fixture(scope="session")
def work() -> Iterator[Workspace]:
    """One workspace for all: stores are built once."""
    with workspace(SIZES[os.environ.get("VARVE_BENCH_SIZE", "quick")]) as made:
        yield made


@pytest.mark.parametrize("solo", SOLOS, ids=lambda solo: solo.identity)
def test_a_call(solo: Solo, work: Workspace, benchmark: Any) -> None:
    """Timed over some rounds; in each of them the checksum must be right."""
    side, expected, events = solo.prepare(work)
    benchmark.group = f"{solo.group} ({solo.durability})"
    benchmark.extra_info["events a round"] = events
    found: list[Any] = []

    with contextlib.ExitStack() as stack:

        def setup() -> tuple[tuple[Any], dict[str, Any]]:
            return (stack.enter_context(side.setup()),), {}

        def run(state: Any) -> None:
            found.append(side.run(state))

        def teardown(state: Any) -> None:
            assert side.checksum(state, found.pop()) == expected
            stack.close()

        benchmark.pedantic(run, setup=setup, teardown=teardown, rounds=ROUNDS)
