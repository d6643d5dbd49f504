"""An aggregate: initial, evolve, decide - and decide again if somebody was faster.

Two clerks work on the same order at the same moment: one ships it, the other cancels it. Both have seen it placed, at version 1,
so both append with ``expected=1``. Exactly one append is written. The other is refused; ``execute`` loads the order again, and
its clerk sees that there is nothing left to decide. The state is saved after every second event, so that loading need not begin
at the first one.

python examples/order_aggregate.py [FOLDER]    (a temporary folder by default)
"""

import dataclasses
import enum
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import varve
from varve.testing import given


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


class Status(enum.Enum):
    """What has become of an order."""

    NEW = "new"
    PLACED = "placed"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


@dataclasses.dataclass(frozen=True)
class Order:
    """The state of one order: what its decisions need, and no more."""

    status: Status = Status.NEW
    product: str = ""

    def to_snapshot(self) -> list[object]:
        """What is saved of it."""
        return [self.status, self.product]

    @classmethod
    def from_snapshot(cls, value: list[object]) -> Self:
        """The order again."""
        status, product = value
        assert isinstance(status, Status)
        return cls(status, str(product))


@dataclasses.dataclass(frozen=True)
class Ship:
    """Send the parcel."""

    tracking_number: str


@dataclasses.dataclass(frozen=True)
class Cancel:
    """Do not send it."""

    reason: str


class OrderRefused(Exception):
    """The order's state forbids the command: no retry will help."""


def evolve(order: Order, event: OrderEvent) -> Order:
    """The order after one more event."""
    match event:
        case OrderPlaced(product):
            return Order(Status.PLACED, product)
        case OrderShipped():
            return Order(Status.SHIPPED, order.product)
        case OrderCancelled():
            return Order(Status.CANCELLED, order.product)


def decide(order: Order, command: Ship | Cancel) -> OrderEvent:
    """What a command comes to."""
    match command:
        case Ship(tracking_number):
            if order.status is not Status.PLACED:
                raise OrderRefused(f"cannot ship an order that is {order.status.value}")
            return OrderShipped(tracking_number)
        case Cancel(reason):
            if order.status is not Status.PLACED:
                raise OrderRefused(f"cannot cancel an order that is {order.status.value}")
            return OrderCancelled(reason)


def check_the_rules() -> None:
    """The rules hold, without a store: this is what a test of them looks like."""
    order: varve.Decider[Order, Ship | Cancel, OrderEvent] = varve.Decider(Order, evolve, decide)
    placed = OrderPlaced("Laptop", 1)
    given(order, placed).when(Ship("TRACK-1")).then(OrderShipped("TRACK-1"))
    given(order, placed, OrderShipped("TRACK-1")).when(Cancel("too late")).then_raises(OrderRefused, match="shipped")
    given(order).when(Ship("TRACK-1")).then_raises(OrderRefused)


def say(line: str) -> None:
    """One write per line: ``print`` makes two, and the clerks are two threads."""
    sys.stdout.write(f"{line}\n")


def main(path: Path) -> None:
    """Let two clerks collide on one order."""
    check_the_rules()
    with varve.open(path) as db:
        orders = db.stream("orders", OrderPlaced | OrderShipped | OrderCancelled)
        number = 7
        while orders.reader().length(number):  # in a folder of an earlier run it is another order
            number += 1
        orders.append(number, OrderPlaced("Laptop", 1), expected=varve.NO_STREAM)

        # Both wait here after their first look, so that both have seen version 1. A second look does not wait.
        both_have_looked = threading.Barrier(2, timeout=30)

        def watched(clerk: str) -> Callable[[Order, Ship | Cancel], OrderEvent]:
            def watch(order: Order, command: Ship | Cancel) -> OrderEvent:
                say(f"{clerk}: the order is {order.status.value}")
                if order.status is Status.PLACED:
                    both_have_looked.wait()
                return decide(order, command)

            return watch

        def work(clerk: str, command: Ship | Cancel) -> None:
            order = varve.Aggregate(
                orders,
                initial=Order,
                evolve=evolve,
                decide=watched(clerk),
                snapshots=db.snapshots.holding(Order, Status),
                every=2,
            )
            try:
                done = order.execute(number, command)
                say(f"{clerk}: written as event {done.positions[0].stream_sequence} of the order")
            except OrderRefused as refusal:
                say(f"{clerk}: {refusal}")

        clerks = [
            threading.Thread(target=work, args=args)
            for args in (("shipping", Ship("TRACK-1")), ("support", Cancel("found it cheaper")))
        ]
        for clerk in clerks:
            clerk.start()
        for clerk in clerks:
            clerk.join()

        reading = varve.Aggregate(
            orders, initial=Order, evolve=evolve, decide=decide, snapshots=db.snapshots.holding(Order, Status)
        )
        order, version = reading.load(number)
        saved = [info.position for info in db.snapshots.stored(("orders", number))]
        print(f"order {number} is {order.status.value} at version {version}, saved at {saved}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder, "store"))
