"""A process manager: what happens to orders, payments and shipments decides what is to be done next.

    python examples/order_process_manager.py [folder]

It reserves stock when an order is placed, asks for payment, and sends the goods when both are there. What it knows of an order is
state, what it wants done are events of their own, and both are committed together with its position: whenever it is killed, each
is done exactly once. An order that it cannot handle becomes a dead letter, its later events wait, and all other orders go on.
Given a folder, it continues there each time it is run.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import varve


@varve.event
class OrderPlaced:
    """Somebody wants something."""

    order_id: varve.u64
    product: str
    quantity: varve.u32
    price_cents: varve.u64


@varve.event
class PaymentReceived:
    """Money has come, perhaps a part of it."""

    order_id: varve.u64
    amount_cents: varve.u64


@varve.event
class GoodsDelivered:
    """The goods have arrived."""

    order_id: varve.u64


@varve.event
class RequestPayment:
    """Ask for the money."""

    order_id: varve.u64
    amount_cents: varve.u64


@varve.event
class ShipGoods:
    """Send the goods."""

    order_id: varve.u64
    product: str
    quantity: varve.u32


@varve.event
class OrderRejected:
    """Tell that it cannot be."""

    order_id: varve.u64
    reason: str


@varve.event
class OrderClosed:
    """All is done."""

    order_id: varve.u64


OrderEvent = OrderPlaced | PaymentReceived | GoodsDelivered
Command = RequestPayment | ShipGoods | OrderRejected | OrderClosed


class UnknownProduct(Exception):
    """Nobody has told what the warehouse holds of it: somebody has to look into that."""


class OrderProcess:
    """What is known of each order, and what follows from it."""

    def __init__(self, db: varve.Varve) -> None:
        self.commands = db.stream("commands", Command)

    def placed(self, recorded: varve.Recorded[OrderPlaced], tx: varve.Transaction) -> None:
        """Take the goods aside, and ask for the money."""
        order = recorded.event
        stock = tx.state.get_opt(("stock", order.product))
        if stock is None:
            raise UnknownProduct(f"no stock is kept of {order.product!r}")
        if stock < order.quantity:
            tx.append(self.commands, order.order_id, OrderRejected(order.order_id, "out of stock"))
            return
        due = order.quantity * order.price_cents
        tx.state.add(("stock", order.product), -order.quantity, min=0)
        tx.state.put(("order", order.order_id), {"product": order.product, "quantity": order.quantity, "due": due})
        tx.append(self.commands, order.order_id, RequestPayment(order.order_id, due))

    def paid(self, recorded: varve.Recorded[PaymentReceived], tx: varve.Transaction) -> None:
        """Ship what is paid for; money may come in parts."""
        order_id = recorded.event.order_id
        order = tx.state.get_opt(("order", order_id))
        if order is None:  # it was rejected
            return
        order["due"] -= recorded.event.amount_cents
        tx.state.put(("order", order_id), order)
        if order["due"] <= 0:
            tx.append(self.commands, order_id, ShipGoods(order_id, order["product"], order["quantity"]))

    def delivered(self, recorded: varve.Recorded[GoodsDelivered], tx: varve.Transaction) -> None:
        """Nothing more is to be known of it."""
        order_id = recorded.event.order_id
        if not tx.state.exists(("order", order_id)):
            return
        tx.state.delete(("order", order_id))
        tx.append(self.commands, order_id, OrderClosed(order_id))


def process_manager(db: varve.Varve) -> varve.Processor:
    """The handlers, and what becomes of an order that they cannot handle."""
    process = OrderProcess(db)
    return db.processor(
        "order-process",
        {OrderPlaced: process.placed, PaymentReceived: process.paid, GoodsDelivered: process.delivered},
        strategy=varve.Retry(3, varve.exponential_wait(0.01), then=varve.DeadLetter(park=True), on=ConnectionError),
    )


def happen(db: varve.Varve) -> None:
    """Three orders: one that goes well, one of a product that nobody knows, one that is too large."""
    orders = db.stream("orders", OrderEvent)
    if orders.reader().length(1):
        return  # a folder of an earlier run
    db.state.put(("stock", "Laptop"), 5)
    orders.append(1, OrderPlaced(1, "Laptop", 2, 99_900))
    orders.append(2, OrderPlaced(2, "Lantern", 1, 1_500))
    orders.append(3, OrderPlaced(3, "Laptop", 9, 99_900))
    orders.append(2, PaymentReceived(2, 1_500))
    orders.append(1, PaymentReceived(1, 100_000))


def show(db: varve.Varve, since: int) -> int:
    """Print what is to be done, from a global sequence on; where to go on."""
    for recorded in db.global_reader().iter_from(since, streams=["commands"]):
        print(f"  {varve.owned(recorded.event)}")
    return db.next_global_sequence


def main(folder: Path) -> None:
    """Handle some events, restart, handle the rest, and put right what went wrong."""
    with varve.open(folder) as db:
        happen(db)
        processor = process_manager(db)
        print(f"handled {processor.catch_up_blocking()} events")
        seen = show(db, 0)

    with varve.open(folder) as db:  # after a restart it goes on where it was
        orders = db.stream("orders", OrderEvent)
        if orders.reader().length(1) == 2:
            orders.append(1, PaymentReceived(1, 99_800))
            orders.append(1, GoodsDelivered(1))
        processor = process_manager(db)
        print(f"restarted, handled {processor.catch_up_blocking()} events")
        seen = show(db, seen)

        for letter in processor.dead_letters:
            print(f"order {letter.stream_id}: {letter.type_name} is {letter.state} {letter.message}".rstrip())
        db.state.put(("stock", "Lantern"), 10)  # somebody has looked into it
        report = processor.retry_blocking()
        print(f"retried {len(report.handled)}, {len(processor.dead_letters)} dead letters are left")
        show(db, seen)
        print("laptops left:", db.state.get(("stock", "Laptop")))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary) / "shop")
