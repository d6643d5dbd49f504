"""The Prometheus metrics of a store that is being written to and consumed.

    pip install 'varve-store[prometheus]'
    python examples/metrics.py                           # a moment of load, then the metrics as text
    python examples/metrics.py --serve 9000 --seconds 60 [STORE]

    curl http://127.0.0.1:9000/metrics

Three threads append orders, one of them with a wrong ``expected`` now and then; a consumer bills them in batches.
"""

import argparse
import contextlib
import random
import tempfile
import threading
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest, start_http_server

import varve
from varve.integrations.prometheus import PrometheusMetrics

WRITERS = 3


@varve.event
class OrderPlaced:
    """A customer ordered something."""

    order_id: varve.u64
    amount: varve.u64


def write(db: varve.Varve, customer: int, until_s: float, appends_min: int) -> None:
    """Append orders of a customer; his first thread is not always sure how many there are."""
    orders = db.stream("orders", OrderPlaced)
    rng = random.Random(customer)  # noqa: S311 - amounts, no secrets
    number = 0
    while number < appends_min or time.monotonic() < until_s:
        expected = number + 1 if customer == 0 and number % 50 == 49 else number
        try:
            orders.append(customer, OrderPlaced(number, rng.randrange(100_000)), expected=expected)
        except varve.WrongExpectedVersion:
            orders.append(customer, OrderPlaced(number, rng.randrange(100_000)), expected=number)
        number += 1


def run(db: varve.Varve, seconds: float, appends_min: int) -> int:
    """Put the store under load for so long; how many orders were billed."""
    until_s = time.monotonic() + seconds
    lengths = [db.stream("orders", OrderPlaced).reader().length(customer) for customer in range(WRITERS)]
    if any(lengths):
        raise SystemExit(f"{db.path} has orders already; give a folder that has none")
    writers = [threading.Thread(target=write, args=(db, customer, until_s, appends_min)) for customer in range(WRITERS)]
    for writer in writers:
        writer.start()
    billed = 0
    with db.consumer("billing", streams=["orders"]) as consumer:
        while any(writer.is_alive() for writer in writers) or consumer.lag:
            for batch in consumer.follow_batches(100, timeout_s=0.05):
                billed += len(batch)
    for writer in writers:
        writer.join()
    return billed


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="The Prometheus metrics of a store under load.")
    parser.add_argument("store", nargs="?", type=Path, help="a folder without orders (default: a temporary one)")
    parser.add_argument("--seconds", type=float, default=0.0, help="how long (default: until each writer has made 200)")
    parser.add_argument(
        "--serve", type=int, metavar="PORT", help="serve the metrics meanwhile instead of printing them"
    )
    arguments = parser.parse_args()
    registry = CollectorRegistry()
    with contextlib.ExitStack() as stack:
        store = arguments.store or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="varve-"))) / "shop"
        db = stack.enter_context(varve.open(store))
        stack.enter_context(PrometheusMetrics(db, registry=registry, store="shop"))
        if arguments.serve is not None:
            server, thread = start_http_server(arguments.serve, "127.0.0.1", registry)
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            print(f"http://127.0.0.1:{arguments.serve}/metrics", flush=True)
        billed = run(db, arguments.seconds, 200)
        if arguments.serve is None:
            print(generate_latest(registry).decode(), end="")
        print(f"# {billed} orders billed")


if __name__ == "__main__":
    main()
