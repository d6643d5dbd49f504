"""Additions to numbers of state, within bounds. What is stored keeps its type, and no digit is lost on the way.

An int takes ints, a Decimal takes Decimals and ints, a float takes floats and ints. A missing key begins as ``missing`` does, in
the type of ``n`` where ``missing`` is an int.
"""

from __future__ import annotations

import decimal
import math
from decimal import Decimal
from typing import Any, Final, NamedTuple

from varve.errors import InvalidInput, NumberOutOfRange, StateTypeMismatch
from varve.layout.values import INT_BITS_MAX, text_of
from varve.state.view import missing as key_missing
from varve.state.view import named

Number = int | float | Decimal

_EXACT: Final = decimal.Context(
    prec=1_000, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[decimal.Inexact, decimal.InvalidOperation]
)
_INT_MAX: Final = 2**INT_BITS_MAX - 1
_TAKES: Final[dict[type, tuple[type, ...]]] = {int: (int,), Decimal: (Decimal, int), float: (float, int)}


class Addition(NamedTuple):
    """What is added, between which bounds, and what happens at them."""

    n: Number
    low: Number | None
    high: Number | None
    clamp: bool
    missing: Number | None

    def to(self, path: str, key: bytes, value: Any, *, exists: bool) -> Number:
        """The sum, under an encoded key. Raises ``StateKeyMissing``, ``StateTypeMismatch``, ``NumberOutOfRange``."""
        if not exists:
            if self.missing is None:
                raise key_missing(path, named(key))
            value = self._first()
        kind = type(value)
        if type(self.n) not in _TAKES.get(kind, ()):
            name = named(key)
            raise StateTypeMismatch(
                f"state holds {value!r:.80} under {name!r:.80}: {self.n!r} cannot be added to it. An int takes ints, a Decimal "
                "Decimals and ints, a float floats and ints. Nothing was written",
                key=name,
                value=value,
                n=self.n,
            )
        return self._within(key, value, _sum(value, self.n, key))

    def _first(self) -> Number:
        """What a missing key counts as."""
        first = self.missing
        assert first is not None
        return type(self.n)(first) if type(first) is int else first

    def _within(self, key: bytes, value: Number, result: Number) -> Number:
        """The sum within its bounds, in the type of the value."""
        kind = type(value)
        if self.low is not None or self.high is not None:
            for bound, passed in ((self.low, _lt(result, self.low)), (self.high, _lt(self.high, result))):
                if passed:
                    assert bound is not None
                    if not self.clamp:
                        raise out_of_range(key, value, result, bound)
                    result = kind(bound)
        if kind is int and abs(result) > _INT_MAX:
            raise out_of_range(key, value, result, _INT_MAX if result > 0 else -_INT_MAX)
        if kind is float and not math.isfinite(result):
            raise out_of_range(key, value, result, math.copysign(1.7976931348623157e308, result))
        return result


def addition(n: Any, low: Any, high: Any, *, clamp: bool, missing: Any) -> Addition:
    """Checked arguments of ``add``. Raises ``InvalidInput``."""
    plain = low is None and high is None and type(n) is int and type(missing) is int
    if plain and -_INT_MAX <= n <= _INT_MAX and -_INT_MAX <= missing <= _INT_MAX:  # the commonest, the short way
        return Addition(n, None, None, bool(clamp), missing)
    _check_number("n", n)
    for name, bound in (("min", low), ("max", high), ("missing", missing)):
        if bound is not None:
            _check_number(name, bound)
            if name != "missing" and type(bound) not in (int, type(n)):
                raise InvalidInput(f"{name} is an int or of the type of n ({type(n).__name__}), not {bound!r}")
    if low is not None and high is not None and high < low:
        raise InvalidInput(f"min is {low!r}, which is above max, {high!r}")
    return Addition(n, low, high, bool(clamp), missing)


def _check_number(name: str, number: Any) -> None:
    if type(number) not in (int, float, Decimal) or not (type(number) is int or math.isfinite(number)):
        raise InvalidInput(f"{name} is a finite int, float or Decimal, not {text_of(number)}")
    if type(number) is int and abs(number) > _INT_MAX:
        raise InvalidInput(f"{name} is an int of {number.bit_length()} bits; {INT_BITS_MAX} are the limit")


def _lt(left: Number | None, right: Number | None) -> bool:
    return left is not None and right is not None and left < right


def _sum(value: Any, n: Any, key: bytes) -> Number:
    if type(value) is not Decimal:
        total: Number = value + n
        return total
    try:
        exact: Decimal = _EXACT.add(value, Decimal(n))
    except (decimal.Inexact, decimal.InvalidOperation):
        name = named(key)
        raise NumberOutOfRange(
            f"{n!r} cannot be added to {value!r:.80}, which state holds under {name!r:.80}, without losing digits: 1000 are the "
            "limit. Nothing was written",
            key=name,
            value=value,
            result=None,
            bound=None,
        ) from None
    return exact


def out_of_range(key: bytes, value: Any, result: Any, bound: Any) -> NumberOutOfRange:
    """The error for a sum beyond a bound."""
    name = named(key)
    return NumberOutOfRange(
        f"state holds {value!r:.80} under {name!r:.80}; it would become {result!r:.80}, beyond {bound!r:.80}. Nothing was "
        "written",
        key=name,
        value=value,
        result=result,
        bound=bound,
    )
