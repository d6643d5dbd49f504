"""A live dashboard: one process replays the year of flights, this one tails the store and draws what has flown.

    python examples/flights_live.py [--speed-up 86400] [--seconds 30] [--path STORE] [--limit N] [--dataset ...]

Needs the data set and, for the picture, rich: ``make live`` installs both. Into a file or a pipe it prints a line per
second instead. The tail begins with the history, so on a ``--path`` that was used before the dashboard counts the
earlier flights first, and the replay (``flights_replay.py``) goes on behind them.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path

import varve
from flights_data import STREAM, Flight, FlightCancelled
from flights_replay import add_options
from flights_terminal import HAS_RICH, print_table

IS_TERMINAL = HAS_RICH and sys.stdout.isatty()
REFRESH_S = 0.1 if IS_TERMINAL else 1.0
DRAIN_S = 0.01
TOP = 6


class Board:
    """What has been seen so far."""

    def __init__(self) -> None:
        self.flights = 0
        self.cancelled = 0
        self.date = "before the first departure"
        self.routes: Counter[str] = Counter()
        self.carriers: Counter[str] = Counter()
        self.delay_minutes: Counter[str] = Counter()
        self.behind_s = 0.0

    def add(self, batch: list[varve.Recorded[Flight]]) -> None:
        """Count some more flights."""
        for recorded in batch:
            flight = recorded.event
            if isinstance(flight, FlightCancelled):
                self.cancelled += 1
            else:
                self.routes[f"{flight.origin}-{flight.dest}"] += 1
                self.carriers[flight.carrier] += 1
                self.delay_minutes[flight.carrier] += flight.dep_delay
        self.flights += len(batch)
        self.date = f"{batch[-1].event.time_hour:%Y-%m-%d %H:00}"
        self.behind_s = max(0.0, time.time() - batch[-1].recorded_at.timestamp())

    @property
    def busiest_route(self) -> str:
        """The route with the most flights."""
        route, flights = max(self.routes.items(), key=lambda item: item[1], default=("none", 0))
        return f"{route}, {flights:,} flights"

    def mean_delay(self, carrier: str | None = None) -> float:
        """Mean departure delay in minutes, of one carrier or of all."""
        if carrier is not None:
            return self.delay_minutes[carrier] / max(1, self.carriers[carrier])
        return self.delay_minutes.total() / max(1, self.carriers.total())

    def figures(self) -> list[tuple[str, str]]:
        """The totals."""
        return [
            ("scheduled up to (UTC)", self.date),
            ("flights", f"{self.flights:,}"),
            ("cancelled", f"{self.cancelled:,}"),
            ("mean departure delay", f"{self.mean_delay():.1f} minutes"),
            ("busiest route", self.busiest_route),
        ]


@contextlib.contextmanager
def screen() -> Generator[Callable[[Board], None], None, None]:
    """What shows a board: a picture that is drawn over itself on a terminal, lines elsewhere."""
    if not IS_TERMINAL:
        yield lambda board: print(
            f"{board.date}: {board.flights:,} flights, {board.cancelled:,} cancelled, {board.mean_delay():.1f} minutes late",
            flush=True,
        )
        return
    from rich.columns import Columns
    from rich.live import Live
    from rich.table import Table

    def picture(board: Board) -> Columns:
        totals = Table(title="New York, 2013", show_header=False)
        for name, figure in [*board.figures(), ("seen after its commit", f"{board.behind_s * 1000:.1f} ms")]:
            totals.add_row(name, figure)
        carriers = Table("carrier", "flights", "minutes late", title="Carriers")
        for carrier, flights in board.carriers.most_common(TOP):
            carriers.add_row(carrier, f"{flights:,}", f"{board.mean_delay(carrier):.1f}")
        return Columns([totals, carriers])

    with Live(auto_refresh=False) as live:
        yield lambda board: live.update(picture(board), refresh=True)


async def follow(tail: varve.Tail[Flight], board: Board) -> None:
    """Count whatever is committed, for ever."""
    async for batch in tail.batches():
        board.add(batch)


async def watch(path: Path, command: list[str], seconds: float, show: Callable[[Board], None]) -> tuple[Board, int]:
    """Tail the store while the other process fills it; the board, and how that process ended (0 where it was stopped)."""
    with varve.open(path) as db:
        board = Board()
        tail = db.stream(STREAM, Flight).tail()
        following = asyncio.create_task(follow(tail, board))
        replay = await asyncio.create_subprocess_exec(*command)
        replaying = asyncio.create_task(replay.wait())
        try:
            until_s = time.monotonic() + seconds
            while not replaying.done() and (left_s := until_s - time.monotonic()) > 0:
                await asyncio.wait(
                    {replaying, following}, timeout=min(REFRESH_S, left_s), return_when=asyncio.FIRST_COMPLETED
                )
                if following.done():
                    await following  # a tail has no end but an error
                show(board)
            code = await replaying if replaying.done() else 0
        finally:
            if replay.returncode is None:
                replay.terminate()
            await replaying
        while tail.position < db.next_global_sequence and not following.done():  # noqa: ASYNC110 - a tail has no such event
            await asyncio.sleep(DRAIN_S)  # what was committed last is on its way
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        show(board)
    return board, code


def main() -> int:
    """Start the replay, watch it, and print the closing table."""
    parser = argparse.ArgumentParser(description="Watch a year of flights as it is replayed into a store.")
    add_options(parser)
    parser.add_argument("--path", type=Path, help="the store (default: a temporary one)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long (default: at the end)")
    options = parser.parse_args()
    command = [sys.executable, str(Path(__file__).with_name("flights_replay.py")), "--speed-up", str(options.speed_up)]
    command += ["--limit", str(options.limit)] if options.limit is not None else []
    command += ["--dataset", str(options.dataset)] if options.dataset is not None else []
    with tempfile.TemporaryDirectory() as folder, screen() as show:
        path = options.path or Path(folder, "store")
        try:
            board, code = asyncio.run(watch(path, [*command, str(path)], options.seconds, show))
        except varve.VarveError as error:
            print(f"flights_live: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    if code == 0:
        print_table("Flights that were seen", board.figures())
    return code


if __name__ == "__main__":
    sys.exit(main())
