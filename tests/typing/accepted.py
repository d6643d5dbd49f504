"""User code that mypy --strict and pyright strict must accept, with the types that they must infer.

Never executed: ``test_typing.py`` runs the checkers over it.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, assert_type
from uuid import UUID

import varve
from varve.integrations.opentelemetry import Telemetry, trace_metadata
from varve.integrations.prometheus import PrometheusMetrics


@varve.event
class OrderPlaced:
    order_id: varve.u64
    product: str
    quantity: varve.u32
    amount: varve.u64
    note: str | None = None


@varve.event(name="order-shipped")
class OrderShipped:
    order_id: varve.u64
    weights: list[varve.f32]


class NotAnEvent:
    pass


OrderEvent = OrderPlaced | OrderShipped


def events_are_dataclasses() -> None:
    positional = OrderPlaced(12345, "Laptop", 1, 99900)
    keyword = OrderPlaced(order_id=1, product="Mouse", quantity=2, amount=100, note="gift")
    assert_type(positional, OrderPlaced)
    assert_type(keyword.order_id, int)
    assert_type(keyword.product, str)
    assert_type(keyword.note, str | None)
    assert_type(OrderShipped(1, [0.5]).order_id, int)
    assert_type(varve.owned(positional), OrderPlaced)


def streams_know_their_events(db: varve.Varve) -> None:
    orders = db.stream("orders", OrderPlaced)
    either = db.stream("orders", OrderPlaced | OrderShipped)
    by_alias = db.stream("orders", OrderEvent)
    assert_type(orders, varve.Stream[OrderPlaced])
    assert_type(either, varve.Stream[OrderPlaced | OrderShipped])
    either.append_columns(1, {"order_id": [1]}, type=OrderPlaced)
    assert_type(by_alias, varve.Stream[OrderPlaced | OrderShipped])


def appends_give_positions(db: varve.Varve) -> None:
    orders = db.stream("orders", OrderPlaced)
    event = OrderPlaced(1, "Laptop", 1, 99900)
    position = orders.append(1, event)
    assert_type(position, varve.Position)
    assert_type(position.stream_sequence, int)
    assert_type(position.global_sequence, int)
    assert_type(position.replayed, bool)
    stream_sequence, global_sequence = position
    assert_type(stream_sequence, int)
    assert_type(global_sequence, int)

    span = orders.append_batch("two", [event, event], expected=varve.NO_STREAM, idempotency_key="batch-1")
    assert_type(span, varve.Span)
    assert_type(span[0], varve.Position)
    assert_type(list(span), list[varve.Position])
    assert_type(len(span), int)
    assert_type(span.replayed, bool)

    assert_type(orders.append_many([(1, event), ("two", event), (UUID(int=3), event)]), varve.Span)
    columns = {"order_id": [1], "product": ["Laptop"], "quantity": [1], "amount": [99900]}
    assert_type(orders.append_columns(1, columns, type=OrderPlaced, expected=1), varve.Span)
    orders.append(1, event, expected=2, metadata={"user": "ann"}, idempotency_key=UUID(int=4))
    orders.append(1, event, expected=varve.STREAM_EXISTS, idempotency_key=b"key")
    orders.append(1, event, expected=varve.ANY)


async def awaited_appends_give_the_same(db: varve.Varve) -> None:
    orders = db.stream("orders", OrderPlaced)
    event = OrderPlaced(1, "Laptop", 1, 99900)
    assert_type(await orders.append_async(1, event, expected=2, metadata={"user": "ann"}), varve.Position)
    assert_type(await orders.append_batch_async("two", [event], idempotency_key="batch-1"), varve.Span)
    assert_type(await orders.append_many_async([(1, event), (UUID(int=3), event)]), varve.Span)
    assert_type(await orders.append_columns_async([1], {"order_id": [1]}), varve.Span)
    async with db.transaction(idempotency_key="both") as tx:
        assert_type(tx, varve.Transaction)
        tx.append(orders, 1, event)
    assert_type(tx.positions, list[varve.Position | varve.Span])
    await db.transaction().commit_async()


def readers_give_the_declared_events(db: varve.Varve) -> None:
    reader = db.stream("orders", OrderPlaced).reader()
    assert_type(reader, varve.StreamReader[OrderPlaced])
    assert_type(reader.get(1, 0), OrderPlaced | None)
    assert_type(reader.get_bytes(1, 0), memoryview | None)
    assert_type(reader.length(1), int)
    for stream_id in reader.stream_ids():
        assert_type(stream_id, int | str | UUID)

    for recorded in reader.iter_stream(1, start=0, stop=10, reverse=True):
        assert_type(recorded, varve.Recorded[OrderPlaced])
        assert_type(recorded.event, OrderPlaced)
        assert_type(recorded.event.amount, int)
        assert_type(recorded.type, type[OrderPlaced])
        assert_type(recorded.stream, str)
        assert_type(recorded.stream_id, int | str | UUID)
        assert_type(recorded.stream_sequence, int)
        assert_type(recorded.global_sequence, int)
        assert_type(recorded.commit_sequence, int)
        assert_type(recorded.recorded_at, datetime)
        assert_type(recorded.time_ns, int)
        assert_type(recorded.raw, memoryview)


def unions_narrow_in_match(db: varve.Varve) -> None:
    either = db.stream("orders", OrderPlaced | OrderShipped)
    everything: Iterator[varve.Recorded[OrderPlaced | OrderShipped]] = either.reader().iter_all()
    for recorded in everything:
        match recorded.event:
            case OrderPlaced(product=product):
                assert_type(product, str)
            case OrderShipped() as shipped:
                assert_type(shipped, OrderShipped)
    either.append(1, OrderPlaced(1, "Laptop", 1, 99900))
    either.append_batch(1, [OrderPlaced(1, "Laptop", 1, 99900), OrderShipped(1, [])])


def replays_are_of_any_event(db: varve.Varve) -> None:
    replay = db.global_reader()
    assert_type(replay, varve.GlobalReader)
    assert_type(db.next_global_sequence, int)
    assert_type(db.sequence_at(datetime.now(UTC)), int)
    first: varve.Recorded[Any] | None = replay.get(0)
    assert first is not None
    for recorded in replay.iter_from(0, stop=5, streams=["orders"], types=[OrderPlaced, "order-shipped"]):
        print(recorded.event)
    for raw in replay.iter_bytes(0):
        assert_type(raw, memoryview)


def snapshots_and_transactions(db: varve.Varve) -> None:
    orders = db.stream("orders", OrderPlaced)
    with db.snapshot() as snap:
        assert_type(snap.reader(orders).get(1, 0), OrderPlaced | None)
        assert_type(snap.global_reader(), varve.GlobalReader)
    with db.snapshot(at=3) as past:
        assert_type(past.reader(orders), varve.StreamReader[OrderPlaced])
    with db.transaction() as tx:
        tx.append(orders, 1, OrderPlaced(1, "Laptop", 1, 99900), expected=1)
        tx.append_batch(orders, "p-77", [OrderPlaced(1, "Laptop", 1, 99900)], expected=varve.NO_STREAM)
    for written in tx.positions:
        if isinstance(written, varve.Span):
            assert_type(written[0], varve.Position)
        else:
            assert_type(written, varve.Position)


async def tails_know_their_events(db: varve.Varve) -> None:
    either = db.stream("orders", OrderPlaced | OrderShipped)
    async for recorded in either.tail(varve.END):
        assert_type(recorded, varve.Recorded[OrderPlaced | OrderShipped])
    async for batch in either.tail(3, stream_id="p-77").batches(100):
        assert_type(batch, list[varve.Recorded[OrderPlaced | OrderShipped]])
    tail = db.tail(datetime.now(UTC), streams=["orders"], types=[OrderPlaced, "order-shipped"])
    assert_type(tail, varve.Tail[Any])
    assert_type(tail.position, int)
    first: varve.Recorded[Any] = await anext(tail)
    print(first.event)
    await tail.aclose()
    watcher = db.watcher()
    assert_type(watcher, varve.Watcher)
    assert_type(await watcher.wait_for_global_seq(100), int)


def threads_follow(db: varve.Varve) -> None:
    orders = db.stream("orders", OrderPlaced)
    for recorded in orders.follow(timeout_s=1.5):
        assert_type(recorded, varve.Recorded[OrderPlaced])
    for batch in orders.follow(stream_id=1, timeout_s=0).batches():
        assert_type(batch, list[varve.Recorded[OrderPlaced]])
    assert_type(db.follow(), varve.Follow[Any])
    assert_type(db.watcher().wait(100, timeout_s=1), int)
    assert_type(db.watcher().next_global_sequence, int)


@varve.event(name="OrderPlaced.v2")
class OrderPlacedV2:
    order_id: str


@varve.upcast(OrderPlaced, OrderPlacedV2)
def in_text(old: OrderPlaced) -> OrderPlacedV2:
    return OrderPlacedV2(str(old.order_id))


def upcasts_stay_functions() -> None:
    assert_type(in_text(OrderPlaced(1, "Laptop", 1, 99900)), OrderPlacedV2)
    varve.upcast(OrderShipped, OrderPlacedV2)(lambda old: OrderPlacedV2(str(old.order_id)))


def unknown_events_come_where_asked_for(db: varve.Varve) -> None:
    orders = db.stream("orders", OrderPlaced)
    assert_type(orders.reader(unknown="error"), varve.StreamReader[OrderPlaced])
    reader = orders.reader(unknown="event")
    assert_type(reader, varve.StreamReader[OrderPlaced | varve.UnknownEvent])
    assert_type(reader.get(1, 0), OrderPlaced | varve.UnknownEvent | None)
    for recorded in reader.iter_stream(1):
        match recorded.event:
            case OrderPlaced() as placed:
                assert_type(placed, OrderPlaced)
            case varve.UnknownEvent(name, data) as unknown:
                assert_type(unknown.type_name, str)
                assert_type(name, str)
                assert_type(data, memoryview)
                assert_type(varve.owned(unknown), varve.UnknownEvent)
    with db.snapshot() as snap:
        assert_type(snap.reader(orders), varve.StreamReader[OrderPlaced])
        assert_type(snap.reader(orders, unknown="event"), varve.StreamReader[OrderPlaced | varve.UnknownEvent])
        assert_type(snap.global_reader(unknown="event"), varve.GlobalReader)
    db.write(lambda tx: tx.reader(orders, unknown="event").get(1, 0))
    assert_type(db.global_reader(unknown="decode"), varve.GlobalReader)
    assert_type(varve.schema.incompatibilities(OrderPlaced, OrderPlacedV2), list[str])


def opening_is_a_context() -> None:
    with varve.open("./data") as db:
        assert_type(db, varve.Varve)
    with varve.open("./data", linger_s=0.001) as patient:
        assert_type(patient, varve.Varve)
    with varve.open("./data", readonly=True) as reader:
        assert_type(reader, varve.Varve)


async def consumers_are_tails_with_a_name(db: varve.Varve) -> None:
    async with db.consumer(
        "billing", streams=["orders"], types=[OrderPlaced], commit="manual", start=varve.END
    ) as consumer:
        assert_type(consumer, varve.Consumer[Any])
        async for recorded in consumer:
            assert_type(recorded, varve.Recorded[Any])
            assert_type(await consumer.commit(), int)
        async for batch in consumer.batches(100):
            assert_type(batch, list[varve.Recorded[Any]])
        async with db.transaction() as tx:
            tx.store_position(consumer)
    with db.consumer("mail", member=0, members=2, interval_s=0, force=True) as member:
        assert_type(member.follow(0.5), Iterator[varve.Recorded[Any]])
        assert_type(member.commit_blocking(), int)
        assert_type(member.seek(datetime.now(UTC)), int)
    assert_type(db.consumers(), list[varve.ConsumerInfo])
    assert_type(db.delete_consumer("mail"), bool)


class Counts(varve.Observer):
    def __init__(self) -> None:
        self.events = 0

    def commit_ended(self, report: varve.CommitReport, /) -> None:
        self.events += report.events
        assert_type(report.errors, tuple[str, ...])

    def batch_handled(self, report: varve.BatchReport, /) -> None:
        assert_type(report.lag, int)


def stores_can_be_watched(db: varve.Varve, consumer: varve.Consumer[OrderPlaced]) -> None:
    counts = Counts()
    db.observe(counts)
    db.unobserve(counts)
    assert_type(db.stats().writes.commit_s, float)
    with PrometheusMetrics(db, store="shop") as metrics:
        assert_type(metrics, PrometheusMetrics)
    with Telemetry(db, commit_spans=False) as telemetry:
        for batch in consumer.follow_batches():
            with telemetry.process(consumer, batch) as span:
                span.set_attribute("orders", len(batch))
    db.stream("orders", OrderPlaced).append(1, OrderPlaced(1, "x", 1, 1), metadata=trace_metadata({"user": "ada"}))


@varve.event
class Grow:
    by: varve.u32

    def apply(self, sizes: dict[str, int]) -> int:
        sizes["all"] = sizes.get("all", 0) + self.by
        return sizes["all"]


def no_sizes() -> dict[str, int]:
    return {}


async def a_system_knows_its_state_and_results(db: varve.Varve) -> None:
    with varve.PrevalentSystem(db, "sizes", initial=no_sizes, commands=[Grow], flush=0.1) as system:
        assert_type(system, varve.PrevalentSystem[dict[str, int]])
        assert_type(system.execute(Grow(1)), int)
        assert_type(await system.execute_async(Grow(1)), int)
        assert_type(system.query(lambda sizes: sizes["all"], copy=True), int)
        assert_type(system.recover(), tuple[Any, ...])
