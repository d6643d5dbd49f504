"""The error tree as programs use it."""

from __future__ import annotations

import inspect
import pickle
from typing import Any, get_args

import pytest

import varve
from varve import errors

TREE = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, varve.VarveError)]

BUILT_IN = {
    "InvalidInput": ValueError, "InvalidName": ValueError, "InvalidStreamId": ValueError, "InvalidMetadata": ValueError,
    "InvalidIdempotencyKey": ValueError, "EventTooLarge": ValueError, "TooManyItems": ValueError,
    "EventEncodingError": ValueError,
    "EventTypeError": TypeError, "SchemaError": TypeError, "MalformedEvent": ValueError, "SchemaConflict": TypeError,
    "StoreUnavailable": OSError, "StoreNotFound": FileNotFoundError, "StoreAccessDenied": PermissionError, "NoSpace": OSError,
    "DiskFull": OSError, "StoreFull": OSError, "HandleUnusable": RuntimeError, "StoreClosed": RuntimeError,
    "SnapshotClosed": RuntimeError, "TransactionClosed": RuntimeError, "ForkedStore": RuntimeError, "ReadonlyStore": RuntimeError,
    "ViewsStillAlive": BufferError, "WaitTimeout": TimeoutError,
}  # fmt: skip


@pytest.mark.parametrize("error", TREE, ids=lambda e: e.__name__)
def test_an_error_has_a_code_a_kind_and_a_place_in_the_tree(error: type[varve.VarveError]) -> None:
    """Each is drawn, documented, exported, and has a stable code and a known kind."""
    assert error.code == error.code.lower()
    assert error.code
    assert error.kind in get_args(errors.Kind)
    assert error.__doc__
    assert errors.__doc__ is not None
    assert any(line.lstrip(" |`-").split(" ")[0] == error.__name__ for line in errors.__doc__.splitlines())
    assert getattr(varve, error.__name__) is error


@pytest.mark.parametrize(("name", "built_in"), BUILT_IN.items())
def test_an_error_is_also_the_built_in(name: str, built_in: type[Exception]) -> None:
    """Code that knows only Python catches it."""
    assert issubclass(getattr(varve, name), built_in)


def facts_of(error: type[varve.VarveError]) -> dict[str, Any]:
    names = {n for base in error.__mro__ for n in vars(base).get("__annotations__", {})} - {"code", "kind"}
    return {name: f"value of {name}" for name in names}


@pytest.mark.parametrize("error", TREE, ids=lambda e: e.__name__)
def test_an_error_carries_its_facts_through_pickle(error: type[varve.VarveError]) -> None:
    """Message, facts and type survive the way to another process."""
    facts = facts_of(error)
    raised = error("what happened", **facts)
    for one in (raised, pickle.loads(pickle.dumps(raised))):
        assert type(one) is error
        assert str(one) == one.message == "what happened"
        assert {name: getattr(one, name) for name in facts} == facts


def test_a_caught_error_pickles(db: varve.Varve, orders: Any) -> None:
    """A real one, with an enum among its facts."""
    with pytest.raises(varve.WrongExpectedVersion) as caught:
        orders.append(1, __import__("store_models").placed(1), expected=varve.STREAM_EXISTS)
    twin = pickle.loads(pickle.dumps(caught.value))
    assert twin.expected is varve.STREAM_EXISTS
    assert (twin.stream, twin.stream_id, twin.actual) == ("orders", 1, 0)
