"""Tails give what readers give: events of old types upcast, those of unknown types as they are asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import varve


@varve.event(name="tails.Sold")
class Sold:
    order_id: varve.u64


@varve.event(name="tails.Sold.v2")
class SoldV2:
    order_id: str


@varve.event(name="tails.Sold.v3")
class SoldV3:
    order_id: str
    shop: str


@varve.event(name="tails.Other")
class Other:
    number: varve.u32


@varve.upcast(Sold, SoldV2)
def in_text(old: Sold) -> SoldV2:
    return SoldV2(str(old.order_id))


@varve.upcast(SoldV2, SoldV3)
def with_shop(old: SoldV2) -> SoldV3:
    return SoldV3(old.order_id, "Berlin")


def taken(tail: varve.Tail[Any], count: int) -> list[varve.Recorded[Any]]:
    async def take() -> list[varve.Recorded[Any]]:
        return [await anext(tail) for _ in range(count)]

    return asyncio.run(take())


def test_old_events_come_as_the_newest_type(varve_store: varve.Varve) -> None:
    """Two upcasts in a chain, in tails and followers of the whole log and of one stream; raw bytes stay as they are."""
    varve_store.stream("sales", Sold).append(1, Sold(7))
    sales = varve_store.stream("sales", SoldV3)
    sales.append(1, SoldV3("8", "Paris"))
    wanted = [SoldV3("7", "Berlin"), SoldV3("8", "Paris")]
    for recorded in (
        taken(varve_store.tail(), 2),
        taken(sales.tail(), 2),
        taken(sales.tail(stream_id=1), 2),
        list(varve_store.follow(timeout_s=0)),
        list(sales.follow(timeout_s=0)),
    ):
        assert [one.event for one in recorded] == wanted
        assert recorded[0].type is SoldV3
        assert bytes(recorded[0].raw) == bytes(varve_store.global_reader().get_bytes(0) or b"")
    assert [one.event for one in varve_store.follow(types=[SoldV2], timeout_s=0)] == [SoldV2("7")]


def test_an_upcast_that_comes_later_is_noticed(varve_store: varve.Varve) -> None:
    """A tail that is under way gives later events through an upcast that was registered meanwhile."""

    @varve.event(name="tails.Late")
    class Late:
        number: varve.u32

    @varve.event(name="tails.Late.v2")
    class LateV2:
        number: str

    late = varve_store.stream("late", Late)
    late.append(1, Late(1))
    following = varve_store.follow(timeout_s=0)
    assert next(following).event == Late(1)
    varve.upcast(Late, LateV2)(lambda old: LateV2(str(old.number)))
    late.append(1, Late(2))
    assert [one.event for one in varve_store.follow(1, timeout_s=0)] == [LateV2("2")]
    assert next(following).event == LateV2("2")


def test_unknown_events_come_as_they_are_asked_for(varve_store: varve.Varve) -> None:
    """Never passed over: an error where a stream does not declare them, an ``UnknownEvent`` where that was asked for."""
    varve_store.stream("sales", Other).append(1, Other(3))
    sales = varve_store.stream("sales", SoldV3)
    raw = varve_store.global_reader().get_bytes(0)
    assert raw is not None
    unknown = varve.UnknownEvent("tails.Other", raw)
    assert taken(sales.tail(unknown="event"), 1)[0].event == unknown
    assert [one.event for one in sales.follow(unknown="event", timeout_s=0)] == [unknown]
    for following in (sales.follow(timeout_s=0), sales.follow(stream_id=1, timeout_s=0)):
        with pytest.raises(varve.UnexpectedEventType):
            next(following)
    with pytest.raises(varve.UnexpectedEventType):
        taken(sales.tail(), 1)


def test_unknown_is_checked(varve_store: varve.Varve) -> None:
    """A typed stream has no class to decode an unknown event with."""
    sales = varve_store.stream("sales", SoldV3)
    with pytest.raises(varve.InvalidInput, match="unknown="):
        sales.tail(unknown="decode")  # type: ignore[call-overload]
    with pytest.raises(varve.InvalidInput, match="unknown="):
        varve_store.follow(unknown="skip")  # type: ignore[arg-type]
    assert varve_store.tail(unknown="error").position == 0
