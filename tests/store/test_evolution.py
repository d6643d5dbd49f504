"""Event classes that change while a store lives: checked at ``db.stream`` and again in the commit of the first append."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store_models import OrderPlaced, placed

import varve


def version(fields: dict[str, Any], name: str = "Thing", **defaults: Any) -> Any:
    """A class for the event type ``Thing``."""
    body = {"__annotations__": fields, "__module__": __name__} | defaults
    return varve.event(name=name)(type("Thing", (), body))


V1 = version({"a": int, "b": str})
V2 = version({"a": int, "b": str, "c": int | None})
V3 = version({"a": int, "b": str, "c": int | None, "d": varve.u8}, d=7)
BROKEN = version({"b": bytes, "a": varve.u8, "e": str})
BROKEN_REASONS = (
    "the fields of Thing were reordered: a, b became b, a",
    "Thing.a was i64 and is u8 now",
    "Thing.b was str and is bytes now",
    "Thing.e is new and needs a plain default, or T | None: older events do not have it",
)


def test_every_reason_is_given_at_once(db: varve.Varve) -> None:
    """In the attribute and in the message, with a way out; nothing is written."""
    stream = db.stream("s", V1)
    stream.append(1, V1(1, "x"))
    with pytest.raises(varve.SchemaConflict) as caught:
        db.stream("s", BROKEN)
    assert caught.value.reasons == BROKEN_REASONS
    assert all(reason in str(caught.value) for reason in BROKEN_REASONS)
    assert "varve.upcast" in str(caught.value)
    assert db.next_global_sequence == 1


def test_the_first_append_checks_again(db: varve.Varve) -> None:
    """Whoever bound the class while the store knew nothing of the type gets all the reasons too; the commit is dropped whole."""
    late, orders = db.stream("s", BROKEN), db.stream("orders", OrderPlaced)
    db.stream("s", V1).append(1, V1(1, "x"))
    event = BROKEN(b"", 1, "")
    for attempt in (
        lambda: late.append(1, event),
        lambda: late.append_batch(1, [event, event]),
        lambda: late.append_many([(1, event), (2, event)]),
        lambda: db.write(lambda tx: tx.append(late, 1, event)),
    ):
        with pytest.raises(varve.SchemaConflict) as caught:
            attempt()
        assert caught.value.reasons == BROKEN_REASONS
    with pytest.raises(varve.SchemaConflict), db.transaction() as tx:
        tx.append(orders, 1, placed(1))
        tx.append(late, 1, event)
    assert db.next_global_sequence == 1
    assert orders.append(1, placed(1)) == (0, 1)


def test_what_another_process_declares_meanwhile_counts(varve_path: Path) -> None:
    """It wrote a newer version between our ``db.stream`` and our append: ours may follow it or not."""
    script = """
import sys
sys.path.insert(0, {root!r})
import varve

@varve.event
class Thing:
    a: int
    b: str
    c: int | None

with varve.open({path!r}, durability="relaxed") as db:
    db.stream("s", Thing).append(1, Thing(1, "theirs", 10))
"""
    root = str(Path(varve.__file__).parents[1])
    with varve.open(varve_path, durability="relaxed") as db:
        older, same, newer = (db.stream("s", cls) for cls in (V1, V2, V3))
        subprocess.run([sys.executable, "-c", script.format(root=root, path=str(varve_path))], check=True)
        with pytest.raises(varve.SchemaConflict) as caught:
            older.append(1, V1(1, "lacks what they have written"))
        assert caught.value.reasons[0].startswith("Thing.c was removed;")
        same.append(1, V2(2, "same", None))
        newer.append(1, V3(3, "newer", None, 1))
        assert [r.event.b for r in newer.reader().iter_stream(1)] == ["theirs", "same", "newer"]
        assert db.stats().types == 2


def test_versions_may_be_used_side_by_side(db: varve.Varve) -> None:
    """A known version stays welcome after newer ones, in one commit too; every class reads every version."""
    for cls, event in ((V1, V1(1, "x")), (V2, V2(2, "y", 5)), (V3, V3(3, "z", 6, 8))):
        db.stream("s", cls).append(1, event)
    one, two, three = (db.stream("s", cls) for cls in (V1, V2, V3))
    with db.transaction() as tx:
        tx.append(three, 1, V3(4, "w", None, 9))
        tx.append(one, 1, V1(5, "v"))
        tx.append(two, 1, V2(6, "u", None))
    assert db.stats().types == 3
    assert [r.event for r in one.reader().iter_all()] == [V1(n, b) for n, b in enumerate("xyzwvu", 1)]
    assert [r.event for r in three.reader().iter_all()] == [
        V3(1, "x", None, 7), V3(2, "y", 5, 7), V3(3, "z", 6, 8), V3(4, "w", None, 9), V3(5, "v", None, 7), V3(6, "u", None, 7),
    ]  # fmt: skip


def test_versions_first_appended_in_one_commit_are_compared_with_each_other(db: varve.Varve) -> None:
    """In their order: older then newer is fine, the other way round is a removal."""
    two, three = db.stream("s", V2), db.stream("s", V3)
    with pytest.raises(varve.SchemaConflict), db.transaction() as tx:
        tx.append(three, 1, V3(1, "x", None))
        tx.append(two, 1, V2(2, "y", None))
    assert db.next_global_sequence == 0
    with db.transaction() as tx:
        tx.append(two, 1, V2(2, "y", None))
        tx.append(three, 1, V3(1, "x", None))
    assert db.stats().types == 2


def test_a_version_that_was_skipped_cannot_come_later(db: varve.Varve) -> None:
    """Against the newest it is a removal, even though newer events would be readable: nobody can tell it from one."""
    db.stream("s", V1).append(1, V1(1, "x"))
    db.stream("s", V3).append(1, V3(1, "x", None))
    with pytest.raises(varve.SchemaConflict) as caught:
        db.stream("s", V2)
    assert caught.value.reasons == (
        "Thing.d was removed; keep it, deprecated: field(default=..., kw_only=True, metadata={'deprecated': True})",
    )
    db.stream("s", V1).append(1, V1(2, "y"))


@pytest.fixture
def torn(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> Iterator[varve.Varve]:
    """A store whose versions do not follow one another, as other code could have written it."""
    db.stream("s", V1).append(1, V1(1, "x"))
    other = version({"a": int, "b": bytes})
    with monkeypatch.context() as patch:
        for place in ("varve.store", "varve.engine.commit"):
            patch.setattr(f"{place}.check_evolution", lambda *_: None)
        db.stream("s", other).append(1, other(2, b"y"))
    return db


def test_a_class_must_follow_every_stored_version(torn: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only the newest: what would fit that one alone is refused, at once and in the commit."""
    fits_the_newest = version({"a": int, "b": bytes, "c": int | None})
    with pytest.raises(varve.SchemaConflict, match=r"Thing\.b was str and is bytes now"):
        torn.stream("s", fits_the_newest)
    with monkeypatch.context() as patch:
        patch.setattr("varve.store.check_evolution", lambda *_: None)
        stream = torn.stream("s", fits_the_newest)  # as before others wrote
    with pytest.raises(varve.SchemaConflict, match=r"Thing\.b was str and is bytes now"):
        stream.append(1, fits_the_newest(3, b"z", None))
    with pytest.raises(varve.SchemaConflict, match=r"Thing\.b was bytes and is str now"):
        torn.stream("s", V2)
    assert [r.event.b for r in torn.global_reader().iter_from()] == ["x", b"y"]


def test_nested_types_evolve_with_each_type_that_holds_them(db: varve.Varve) -> None:
    """Each event type has its own history of a nested one."""

    def holder(name: str, **fields: Any) -> Any:
        line = version({"sku": str} | fields, "Line")
        return version({"lines": tuple[line, ...]}, name), line

    (first, line), (second, longer) = holder("First"), holder("Second", count=int | None)
    db.stream("s", first).append(1, first((line("a"),)))
    db.stream("s", second).append(1, second((longer("b", 2),)))
    grown, longer = holder("First", count=int | None)
    db.stream("s", grown).append(1, grown((longer("c", 3),)))
    assert [one.count for r in db.stream("s", grown | second).reader().iter_stream(1) for one in r.event.lines] == [
        None,
        2,
        3,
    ]
    changed, _ = holder("Second", count=str | None)
    with pytest.raises(varve.SchemaConflict, match=r"Line.count was i64 and is str now"):
        db.stream("s", changed)


def test_classes_can_be_compared_without_a_store() -> None:
    """``varve.schema.incompatibilities`` says what a store would."""
    assert varve.schema.incompatibilities(V1, BROKEN) == list(BROKEN_REASONS)
    assert varve.schema.incompatibilities(V1, V3) == []
    assert varve.schema.incompatibilities(V3, V1) != []
    assert varve.schema.incompatibilities(V1, OrderPlaced) == ["the event type Thing became OrderPlaced"]
    for bad in (int, "Thing", None):
        with pytest.raises(varve.SchemaError):
            varve.schema.incompatibilities(V1, bad)  # type: ignore[arg-type]


def test_a_released_fbs_file_can_be_compared_with(tmp_path: Path) -> None:
    """What a build compares: the file as it was released with the class as it is."""
    released = tmp_path / "released.fbs"
    released.write_text(varve.schema.to_fbs(V2))
    before = varve.schema.load(released).Thing
    assert varve.schema.incompatibilities(before, V3) == []
    assert varve.schema.incompatibilities(before, V1)[0].startswith("Thing.c was removed")
