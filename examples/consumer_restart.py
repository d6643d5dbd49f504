"""A consumer that is killed and continues: every order is billed, and none twice.

The script starts itself as the biller, which bills each order in one transaction with its own position, and kills it
(SIGKILL: no chance to tidy up) after a few bills. The kernel frees the name at once; the next biller takes it over and
goes on behind the last bill that was committed.

python examples/consumer_restart.py [FOLDER]    (a temporary folder by default)
"""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

import varve

ORDERS = 12


@varve.event
class OrderPlaced:
    """A customer has ordered."""

    order_id: varve.u64
    amount: varve.u64


@varve.event
class OrderBilled:
    """An order has its bill."""

    order_id: varve.u64
    amount: varve.u64


async def bill(path: Path) -> None:
    """Bill what is not billed yet, and say so."""
    with varve.open(path) as db:
        db.stream("orders", OrderPlaced)  # its events come as this class
        bills = db.stream("bills", OrderBilled)
        async with db.consumer("billing", streams=["orders"], commit="manual") as consumer:
            print(f"continues at {consumer.position}", flush=True)
            async for recorded in consumer:
                order = recorded.event
                async with db.transaction() as tx:  # bill and position: both, or neither
                    tx.append(bills, order.order_id, OrderBilled(order.order_id, order.amount))
                    tx.store_position(consumer)
                print(f"billed order {order.order_id}", flush=True)


def run(path: Path) -> None:
    """Place orders, and let billers bill them who never live long."""
    with varve.open(path) as db:
        orders = db.stream("orders", OrderPlaced)
        bills = db.stream("bills", OrderBilled).reader()
        for order_id in range(ORDERS):
            orders.append(order_id % 3, OrderPlaced(order_id, 1000 + order_id))
        billed = 0
        while billed < ORDERS:
            with subprocess.Popen(
                [sys.executable, __file__, str(path), "--bill"], stdout=subprocess.PIPE, text=True
            ) as biller:
                assert biller.stdout is not None
                print(f"biller {biller.stdout.readline().rstrip()}")
                for _ in range(min(5, ORDERS - billed)):
                    print(f"  {biller.stdout.readline().rstrip()}")
                [info] = db.consumers()
                assert info.members[0].pid == biller.pid
                biller.kill()
            billed = sum(1 for _ in bills.iter_all())
            print(
                f"killed; {billed} of {ORDERS} orders have a bill"
                if billed < ORDERS
                else "killed; all orders have a bill"
            )
        ids = [recorded.event.order_id for recorded in bills.iter_all()]
        print(f"bills: {len(ids)}, orders billed twice: {len(ids) - len(set(ids))}")


if __name__ == "__main__":
    if "--bill" in sys.argv:
        asyncio.run(bill(Path(sys.argv[1])))
    elif len(sys.argv) > 1:
        run(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder, "store"))
