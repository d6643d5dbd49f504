"""Additions: bounds, kinds, what is missing. The same in ``db.state`` and in a transaction."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

import varve

D = Decimal


def live(db: varve.Varve, *arguments: Any, **options: Any) -> None:
    """By itself."""
    db.state.add(*arguments, **options)


def in_a_transaction(db: varve.Varve, *arguments: Any, **options: Any) -> None:
    """In the same words."""
    with db.transaction() as tx:
        tx.state.add(*arguments, **options)


def in_a_write(db: varve.Varve, *arguments: Any, **options: Any) -> None:
    """Under the lock."""
    db.write(lambda tx: tx.state.add(*arguments, **options))


WAYS = pytest.mark.parametrize("add", [live, in_a_transaction, in_a_write])
Add = Callable[..., None]


@WAYS
@pytest.mark.parametrize(
    ("before", "n", "after"),
    [
        (None, 5, 5),
        (None, D("0.10"), D("0.10")),
        (None, 0.5, 0.5),
        (7, -9, -2),
        (D("1.10"), D("2.2"), D("3.30")),
        (D("1.10"), 2, D("3.10")),
        (1.5, 2, 3.5),
        (1.5, 0.25, 1.75),
        (2**256 - 2, 1, 2**256 - 1),
        (D("1e20"), D("1e-20"), D("100000000000000000000.00000000000000000001")),
    ],
)
def test_sums_keep_their_type_and_every_digit(db: varve.Varve, add: Add, before: Any, n: Any, after: Any) -> None:
    """A missing key counts as 0 of the kind that is added."""
    if before is not None:
        db.state.put("n", before)
    add(db, "n", n)
    found = db.state.get("n")
    assert found == after
    assert type(found) is type(after)


@WAYS
@pytest.mark.parametrize(
    ("before", "n"), [(1, 0.5), (1, D(1)), (1.5, D(1)), (D(1), 0.5), ("1", 1), (True, 1), (None, 1), ([], 1)]
)
def test_kinds_that_do_not_mix_are_refused(db: varve.Varve, add: Add, before: Any, n: Any) -> None:
    """With the facts, and nothing is written."""
    db.state.put("n", before)
    with pytest.raises(varve.StateTypeMismatch) as refused:
        add(db, "n", n)
    assert (refused.value.key, refused.value.value, refused.value.n) == ("n", before, n)
    assert isinstance(refused.value, TypeError)
    assert db.state.get("n") == before


@WAYS
@pytest.mark.parametrize(
    ("before", "n", "bounds", "bound"),
    [
        (5, -6, {"min": 0}, 0),
        (5, 6, {"max": 10}, 10),
        (D("0.5"), D("-0.6"), {"min": 0}, 0),
        (0.5, 1.0, {"max": 1.25}, 1.25),
        (-5, 1, {"min": 0}, 0),
    ],
)
def test_beyond_a_bound(db: varve.Varve, add: Add, before: Any, n: Any, bounds: dict[str, Any], bound: Any) -> None:
    """It is refused with its facts; or stored as the bound, in the type that is there."""
    db.state.put("n", before)
    with pytest.raises(varve.NumberOutOfRange) as refused:
        add(db, "n", n, **bounds)
    error = refused.value
    assert (error.key, error.value, error.result, error.bound) == ("n", before, before + n, bound)
    assert isinstance(error, ValueError)
    assert db.state.get("n") == before
    add(db, "n", n, clamp=True, **bounds)
    assert db.state.get("n") == bound
    assert type(db.state.get("n")) is type(before)


@WAYS
def test_at_a_bound_is_within(db: varve.Varve, add: Add) -> None:
    """Both ends."""
    db.state.put("n", 5)
    add(db, "n", -5, min=0)
    add(db, "n", 10, min=0, max=10)
    assert db.state.get("n") == 10


@WAYS
@pytest.mark.parametrize(("before", "n"), [(2**256 - 1, 1), (-(2**256) + 1, -1), (1e308, 1e308), (D(1), D("1e-2000"))])
def test_beyond_what_can_be_stored(db: varve.Varve, add: Add, before: Any, n: Any) -> None:
    """Ints of 256 bits, finite floats, Decimals of 1,000 digits."""
    db.state.put("n", before)
    with pytest.raises(varve.NumberOutOfRange):
        add(db, "n", n)
    assert db.state.get("n") == before


@WAYS
def test_missing_keys(db: varve.Varve, add: Add) -> None:
    """Refused, or begun elsewhere."""
    with pytest.raises(varve.StateKeyMissing):
        add(db, "n", 1, missing=None)
    assert not db.state.exists("n")
    add(db, "n", -3, missing=100)
    assert db.state.get("n") == 97
    add(db, "d", 1, missing=D("0.50"))
    assert db.state.get("d") == D("1.50")
    with pytest.raises(varve.NumberOutOfRange):
        add(db, "x", -1, min=0)


@WAYS
@pytest.mark.parametrize(
    ("n", "options"),
    [
        ("1", {}),
        (True, {}),
        (None, {}),
        (float("nan"), {}),
        (float("inf"), {}),
        (D("NaN"), {}),
        (1, {"min": 0.5}),
        (1, {"max": "9"}),
        (1, {"min": 5, "max": 4}),
        (1, {"missing": float("inf")}),
        (1, {"missing": "0"}),
        (2**256, {}),
        pytest.param(-(10**5_000), {}, id="beyond Python's texts"),
        (1.5, {"missing": 10**400}),
        (1.5, {"max": 10**5_000}),
        (1.5, {"min": 10**400, "clamp": True}),
    ],
)
def test_what_is_no_number_is_refused(db: varve.Varve, add: Add, n: Any, options: dict[str, Any]) -> None:
    """At the call, before anything is committed."""
    with pytest.raises(varve.InvalidInput):
        add(db, "n", n, **options)
    assert not db.state.exists("n")


def test_the_sum_is_given(db: varve.Varve) -> None:
    """By ``db.state.add``, which knows it."""
    assert db.state.add("n", 5) == 5
    assert db.state.add("n", -2) == 3
    assert db.state.add("n", 50, max=10, clamp=True) == 10
