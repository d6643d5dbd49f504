"""Varve in a minute: declare an event, append it durably, read it back, replay everything.

python examples/quickstart.py [FOLDER]    (a temporary folder by default)
"""

import sys
import tempfile
from pathlib import Path

import varve


@varve.event
class OrderPlaced:
    """A customer ordered something; ``amount`` is in cents."""

    order_id: varve.u64
    product: str
    quantity: varve.u32
    amount: varve.u64


def main(path: Path) -> None:
    """Write three orders, then read them in the three ways there are."""
    with varve.open(path) as db:
        orders = db.stream("orders", OrderPlaced)

        # An append returns when the event is on the disk. Customer 1's stream begins with this one.
        position = orders.append(1, OrderPlaced(12345, "Laptop", 1, 99900))
        print(f"appended at stream sequence {position.stream_sequence}, global sequence {position.global_sequence}")

        # A batch is one commit: all of it or nothing. `expected=0` insists that customer 2's stream is still empty.
        span = orders.append_batch(
            2, [OrderPlaced(12346, "Keyboard", 1, 4900), OrderPlaced(12347, "Mouse", 2, 3800)], expected=0
        )
        print(f"appended {len(span)} more, the last at {span[-1]}")

        # One event, by stream and sequence. It is decoded field by field, as you touch them.
        reader = orders.reader()
        order = reader.get(1, 0)
        assert order is not None
        print(f"order {order.order_id}: {order.quantity} x {order.product} for {order.amount / 100:.2f}")

        # One stream, in order.
        for recorded in reader.iter_stream(2):
            print(f"customer {recorded.stream_id}, event {recorded.stream_sequence}: {recorded.event.product}")

        # Everything, in the order of all writes.
        replay = db.global_reader()
        total = sum(recorded.event.amount for recorded in replay.iter_from(0))
        print(f"replayed {db.next_global_sequence} events worth {total / 100:.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder, "store"))
