"""An aggregate: rehydrate an order from its events, decide, append - and decide again if somebody was faster.

Two clerks work on the same order at the same moment: one ships it, the other cancels it. Both have read the order at
version 1, so both append with ``expected=1``. Exactly one append is written. The other is refused with
WrongExpectedVersion; its clerk reads the order again and sees that there is nothing left to decide.

python examples/order_aggregate.py [FOLDER]    (a temporary folder by default)
"""

import dataclasses
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import varve

ATTEMPTS_MAX = 10


@varve.event
class OrderPlaced:
    """A customer ordered something."""

    product: str
    quantity: varve.u32


@varve.event
class OrderShipped:
    """The parcel has left."""

    tracking_number: str


@varve.event
class OrderCancelled:
    """The order will not be shipped."""

    reason: str


OrderEvent = OrderPlaced | OrderShipped | OrderCancelled


class OrderRefused(Exception):
    """The order's state forbids the command: no retry will help."""


@dataclasses.dataclass(frozen=True)
class Order:
    """The state of one order after ``version`` events."""

    version: int = 0
    status: Literal["new", "placed", "shipped", "cancelled"] = "new"

    def apply(self, event: OrderEvent) -> "Order":
        """Give the state after one more event."""
        match event:
            case OrderPlaced():
                return Order(self.version + 1, "placed")
            case OrderShipped():
                return Order(self.version + 1, "shipped")
            case OrderCancelled():
                return Order(self.version + 1, "cancelled")

    def ship(self, tracking_number: str) -> OrderShipped:
        """Decide that the order is shipped."""
        if self.status != "placed":
            raise OrderRefused(f"cannot ship an order that is {self.status}")
        return OrderShipped(tracking_number)

    def cancel(self, reason: str) -> OrderCancelled:
        """Decide that the order is cancelled."""
        if self.status != "placed":
            raise OrderRefused(f"cannot cancel an order that is {self.status}")
        return OrderCancelled(reason)


def load(orders: varve.Stream[OrderEvent], order_id: int) -> Order:
    """Rehydrate an order: fold its events, in order."""
    order = Order()
    for recorded in orders.reader().iter_stream(order_id):
        order = order.apply(recorded.event)
    return order


def execute(
    orders: varve.Stream[OrderEvent], order_id: int, decide: Callable[[Order], OrderEvent], clerk: str
) -> varve.Position:
    """Load, decide, append what was decided if the order is still as it was when loaded; else begin again."""
    for _ in range(ATTEMPTS_MAX):
        order = load(orders, order_id)
        event = decide(order)
        try:
            return orders.append(order_id, event, expected=order.version)
        except varve.WrongExpectedVersion as error:
            say(f"{clerk}: expected version {error.expected}, found {error.actual}: deciding again")
    raise TimeoutError(f"order {order_id} changed {ATTEMPTS_MAX} times while {clerk} was deciding")


def say(line: str) -> None:
    """One write per line: ``print`` makes two, and the clerks are two threads."""
    sys.stdout.write(f"{line}\n")


def main(path: Path) -> None:
    """Let two clerks collide on one order."""
    with varve.open(path) as db:
        orders = db.stream("orders", OrderPlaced | OrderShipped | OrderCancelled)
        orders.append(7, OrderPlaced("Laptop", 1), expected=varve.NO_STREAM)

        # Both wait here after their first look, so that both have seen version 1. A second look does not wait.
        both_have_looked = threading.Barrier(2, timeout=30)

        def ship(order: Order) -> OrderEvent:
            if order.version == 1:
                both_have_looked.wait()
            return order.ship("TRACK-1")

        def cancel(order: Order) -> OrderEvent:
            if order.version == 1:
                both_have_looked.wait()
            return order.cancel("found it cheaper")

        def work(clerk: str, decide: Callable[[Order], OrderEvent]) -> None:
            try:
                position = execute(orders, 7, decide, clerk)
                say(f"{clerk}: written as event {position.stream_sequence} of the order")
            except OrderRefused as refusal:
                say(f"{clerk}: {refusal}")

        clerks = [threading.Thread(target=work, args=args) for args in (("shipping", ship), ("support", cancel))]
        for clerk in clerks:
            clerk.start()
        for clerk in clerks:
            clerk.join()

        order = load(orders, 7)
        print(f"order 7 is {order.status} at version {order.version}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder, "store"))
