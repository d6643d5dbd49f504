"""User code that mypy --strict and pyright strict must refuse, line by line.

Every wrong line carries the code of the error that it deserves, for either checker. Both report an ignore that was not
needed, so a line that would be accepted fails ``test_typing.py``. Never executed.
"""

import varve
from accepted import Grow, NotAnEvent, OrderPlaced, OrderPlacedV2, OrderShipped

PLACED = OrderPlaced(1, "Laptop", 1, 99900)
SHIPPED = OrderShipped(1, [0.5])


def names_of_the_package_are_checked() -> None:
    varve.opne("shop")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def constructors_are_checked() -> None:
    OrderPlaced(1, "Laptop")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    OrderPlaced("1", "Laptop", 1, 99900)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    OrderPlaced(1, "Laptop", 1, 99900, colour="red")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def events_are_frozen() -> None:
    PLACED.amount = 0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def streams_take_their_own_events(db: varve.Varve) -> None:
    orders = db.stream("orders", OrderPlaced)
    orders.append(1, SHIPPED)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    orders.append(1, NotAnEvent())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    orders.append_batch(1, [PLACED, SHIPPED])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    orders.append_many([(1, SHIPPED)])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    orders.append_columns(1, {}, type=OrderShipped)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def transactions_take_the_events_of_the_stream(db: varve.Varve) -> None:
    orders = db.stream("orders", OrderPlaced)
    with db.transaction() as tx:
        tx.append(orders, 1, SHIPPED)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
        tx.append_batch(orders, 1, [SHIPPED])  # type: ignore[misc]  # pyright: ignore[reportArgumentType]


async def awaited_appends_are_checked_alike(db: varve.Varve) -> None:
    orders = db.stream("orders", OrderPlaced)
    await orders.append_async(1, SHIPPED)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await orders.append_batch_async(1, [SHIPPED])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await orders.append_many_async([(1, SHIPPED)])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    async with db.transaction() as tx:
        tx.append(orders, 1, SHIPPED)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]


def unions_take_their_members_only(db: varve.Varve) -> None:
    either = db.stream("orders", OrderPlaced | OrderShipped)
    either.append(1, NotAnEvent())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def stream_ids_are_of_three_kinds(db: varve.Varve) -> None:
    orders = db.stream("orders", OrderPlaced)
    orders.append(1.5, PLACED)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    orders.reader().get(None, 0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def what_get_returns_may_be_none(db: varve.Varve) -> None:
    order = db.stream("orders", OrderPlaced).reader().get(1, 0)
    print(order.amount)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]


def expected_is_an_int_or_a_sentinel(db: varve.Varve) -> None:
    orders = db.stream("orders", OrderPlaced)
    orders.append(1, PLACED, expected="none")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_start_is_a_sequence_an_instant_or_the_end(db: varve.Varve) -> None:
    db.consumer("billing", commit="batch")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    db.tail("end")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    db.follow(start=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    db.stream("orders", OrderPlaced).tail(stream_id=None, start=varve.ANY)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


@varve.upcast(OrderPlaced, OrderPlacedV2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def gives_the_old_one(old: OrderPlaced) -> OrderPlaced:
    return old


@varve.upcast(OrderPlaced, OrderPlacedV2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def takes_another(old: OrderShipped) -> OrderPlacedV2:
    return OrderPlacedV2(str(old.order_id))


def unknown_is_one_of_a_few_words(db: varve.Varve) -> None:
    orders = db.stream("orders", OrderPlaced)
    orders.reader(unknown="skip")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    orders.reader(unknown="decode")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    db.global_reader(unknown="skip")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def unknown_events_are_not_the_declared_ones(db: varve.Varve) -> None:
    orders = db.stream("orders", OrderPlaced)
    for recorded in orders.reader(unknown="event").iter_all():
        orders.append(1, recorded.event)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_system_takes_commands_for_its_state(system: varve.PrevalentSystem[list[str]]) -> None:
    system.execute(Grow(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    system.execute(PLACED)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    system.query(lambda texts: texts.keys())  # type: ignore[attr-defined]  # pyright: ignore[reportUnknownMemberType, reportUnknownLambdaType, reportAttributeAccessIssue]
