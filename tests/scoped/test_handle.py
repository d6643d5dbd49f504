"""The handle: narrowing, metadata, the audit stream, what it says of itself."""

from __future__ import annotations

import copy
import logging
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
from scoped_models import Note, Secret

import varve
from varve import limits
from varve.scoped.audit import Auditor
from varve.testing import ManualClock


def audited(db: varve.Varve) -> list[varve.AccessRefused]:
    """What the audit stream holds."""
    reader = db.stream("audit", varve.AccessRefused).reader()
    return [varve.owned(one.event) for one in reader.iter_all()]


def refuse(handle: varve.ScopedVarve, times: int = 1) -> None:
    """Try what is refused."""
    for number in range(times):
        with pytest.raises(varve.PermissionRefused):
            handle.stream(f"nothing-{number}", Note)


# -- narrowing -------------------------------------------------------------------------------------


def test_narrowing_never_widens(db: varve.Varve) -> None:
    """What the wider handle may not do, no narrower one may, whatever it is given."""
    wide = db.scoped(read=["orders/7", "notes"], append=["orders"], consumers=["a*"], label="wide")
    narrow = wide.scoped(read=["*"], append=["orders/7", "notes"], consumers=["*b"], label="narrow")
    assert narrow.stream("orders", Note).reader().length(7) == 10
    for name, stream_id in [("orders", 8), ("pay", 0)]:
        with pytest.raises(varve.PermissionRefused) as info:
            narrow.global_reader().iter_stream(name, stream_id)
        assert info.value.allowed == ("orders/7", "notes")
    narrow.stream("orders", Note).append(7, Note(1))
    for name, stream_id in [("orders", 8), ("notes", "n1")]:
        with pytest.raises(varve.PermissionRefused):
            narrow.stream(name, Note).append(stream_id, Note(1))
    narrow.consumer("ab").close()
    for name in ("a", "b", "xb"):
        with pytest.raises(varve.PermissionRefused) as info:
            narrow.consumer(name)
        assert info.value.action == "consumer"
        assert f"may not use the consumer {name}: it may " in str(info.value)
    assert wide.stream("orders", Note).append(8, Note(1)).stream_sequence == 10
    assert (narrow.label, wide.scoped().label) == ("narrow", "wide")


def test_what_is_not_named_is_not_allowed(db: varve.Varve) -> None:
    """Neither on the first handle nor on a narrower one."""
    assert repr(db.scoped()) == f"<ScopedVarve 'scoped' of {db.path}: nothing>"
    refuse(db.scoped())
    refuse(db.scoped(read=["*"], append=["*"]).scoped())


def test_a_handle_is_narrowed_so_often(db: varve.Varve) -> None:
    """Each time is asked for each stream: there is a limit."""
    handle = db.scoped(read=["*"])
    for _ in range(limits.SCOPE_DEPTH_MAX - 1):
        handle = handle.scoped(read=["orders"])
    assert handle.stream("orders", Note).reader().length(7) == 10
    with pytest.raises(varve.InvalidInput, match="SCOPE_DEPTH_MAX"):
        handle.scoped()


def test_it_tells_its_scope(db: varve.Varve) -> None:
    """In its repr, and in those of what it gives."""
    handle = db.scoped(read=["orders/*", ("notes",)], append=["orders"], consumers=["c*"], label="t1")
    assert repr(handle) == f"<ScopedVarve 't1' of {db.path}: read orders/*, ('notes',); append orders; consumers c*>"
    assert repr(handle.scoped(read=["orders"])).endswith("read orders; consumers c*; narrowed 1x>")
    stream = handle.stream("orders", Note)
    parts: list[Any] = [stream, stream.reader(), handle.global_reader(), handle.transaction()]
    with handle.snapshot() as snap:
        parts.append(snap)
        assert [part for part in parts if "'t1'" not in repr(part)] == []


def test_it_cannot_be_copied_or_pickled(db: varve.Varve) -> None:
    """As the store's own handle cannot be."""
    handle = db.scoped(read=["*"])
    for take in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            take(handle)


def test_it_ends_with_the_store(varve_path: Path) -> None:
    """It says what any handle says then, and cannot be made any more."""
    with varve.open(varve_path, durability="relaxed") as db:
        handle = db.scoped(read=["*"], append=["*"])
        notes = handle.stream("notes", Note)
    for act in (lambda: notes.append(1, Note(1)), handle.global_reader, handle.transaction, db.scoped):
        with pytest.raises(varve.StoreClosed):
            act()


def test_the_refusal_is_an_error_of_its_own(db: varve.Varve) -> None:
    """No OSError, whose handlers would take it for the disk's; it pickles with its facts."""
    with pytest.raises(varve.PermissionRefused) as info:
        db.scoped(read=["orders"]).stream("pay", Secret)
    error = pickle.loads(pickle.dumps(info.value))
    assert (error.action, error.what, error.allowed, error.label) == ("use", "pay", ("orders",), "scoped")
    assert (error.code, error.kind) == ("permission_refused", "invalid")
    assert not isinstance(error, OSError)


@pytest.mark.parametrize(
    "options", [{"label": ""}, {"label": 7}, {"label": "x" * 256}, {"metadata": {"a": object()}}, {"metadata": 7}]
)
def test_bad_arguments_are_refused(db: varve.Varve, options: dict[str, Any]) -> None:
    """By the kin of InvalidInput, before there is a handle."""
    with pytest.raises(varve.InvalidInput):
        db.scoped(**options)
    with pytest.raises(varve.InvalidInput):
        db.scoped().scoped(**options)
    with pytest.raises(varve.InvalidInput):
        db.scoped(consumers="billing")


# -- metadata --------------------------------------------------------------------------------------


def test_metadata_is_added_to_every_append(db: varve.Varve) -> None:
    """To single ones, batches, columns, transactions; beside what the append brings itself."""
    handle = db.scoped(read=["notes"], append=["notes"], metadata={"tenant": "t1"})
    notes = handle.stream("notes", Note)
    start = db.next_global_sequence
    notes.append("a", Note(1))
    notes.append("a", Note(2), metadata={"user": "ada"})
    notes.append("a", Note(3), metadata={"tenant": "t1"})
    notes.append_batch("a", [Note(4)])
    notes.append_columns("a", {"number": [5]})
    with handle.transaction(metadata={"cause": 7}) as tx:
        tx.append(notes, "a", Note(6))
    handle.write(lambda tx: tx.append(db.stream("notes", Note), "a", Note(7)))
    handle.scoped(append=["notes"], metadata={"more": 1}).stream("notes", Note).append("a", Note(8))
    assert [one.metadata for one in db.global_reader().iter_from(start)] == [
        {"tenant": "t1"},
        {"tenant": "t1", "user": "ada"},
        {"tenant": "t1"},
        {"tenant": "t1"},
        {"tenant": "t1"},
        {"tenant": "t1", "cause": 7},
        {"tenant": "t1"},
        {"tenant": "t1", "more": 1},
    ]


def test_metadata_that_says_otherwise_is_refused(db: varve.Varve) -> None:
    """Neither wins silently: the code has mistaken one tenant for another."""
    handle = db.scoped(append=["notes"], metadata={"tenant": "t1"})
    notes = handle.stream("notes", Note)
    with pytest.raises(varve.PermissionRefused, match="tenant = 't2'"):
        notes.append("a", Note(1), metadata={"tenant": "t2"})
    with pytest.raises(varve.PermissionRefused):
        handle.scoped(append=["notes"], metadata={"tenant": "t2"})
    with pytest.raises(varve.InvalidMetadata):
        notes.append("a", Note(1), metadata={"large": "x" * (limits.METADATA_BYTES_MAX - 20)})
    assert db.stream("notes", Note).reader().length("a") == 0


def test_a_retry_with_the_same_key_is_the_same(db: varve.Varve) -> None:
    """Metadata that the handle adds is part of the content, each time."""
    notes = db.scoped(append=["notes"], metadata={"tenant": "t1"}).stream("notes", Note)
    first = notes.append("a", Note(1), idempotency_key="k")
    again = notes.append("a", Note(1), idempotency_key="k")
    assert (again, again.replayed) == (first, True)


# -- the audit stream ------------------------------------------------------------------------------


def test_refusals_are_recorded(db: varve.Varve) -> None:
    """What, on what, by whom; when is the event's time."""
    handle = db.scoped(read=["orders/7"], append=["orders/7"], label="t1", audit="audit")
    orders = handle.stream("orders", Note)
    with pytest.raises(varve.PermissionRefused):
        orders.append("7", Note(1))
    with pytest.raises(varve.PermissionRefused):
        handle.scoped(read=["*"], label="t1/job").global_reader().iter_stream("pay", 1)
    with pytest.raises(varve.PermissionRefused):
        handle.stats()  # type: ignore[attr-defined]
    assert audited(db) == [
        varve.AccessRefused("t1", "append", "orders/'7'", 0),
        varve.AccessRefused("t1/job", "read", "pay/1", 0),
        varve.AccessRefused("t1", "stats", "the store", 0),
    ]
    assert list(db.stream("audit", varve.AccessRefused).reader().stream_ids()) == ["t1", "t1/job"]
    assert handle.refusals == varve.Refusals(3, 3, 0, 0)


def test_an_audit_stream_of_ones_own(db: varve.Varve) -> None:
    """May hold other events beside."""
    stream = db.stream("audit", varve.AccessRefused | Note)
    refuse(db.scoped(audit=stream))
    assert stream.reader().length("scoped") == 1
    other: Any = db.stream("notes", Note)
    for audit in (other, 7, db.scoped(append=["audit"]).stream("audit", varve.AccessRefused), ""):
        with pytest.raises(varve.InvalidInput):
            db.scoped(audit=audit)


def test_a_scoped_handle_does_not_write_its_audit_stream(db: varve.Varve) -> None:
    """However wide it is: its records are not its own to make."""
    handle = db.scoped(append=["*"], read=["*"], audit="audit")
    forged = varve.AccessRefused("somebody", "read", "everything", 0)
    audit = handle.stream("audit", varve.AccessRefused)
    with pytest.raises(varve.PermissionRefused, match="audit stream"):
        audit.append("x", forged)
    with pytest.raises(varve.PermissionRefused), handle.transaction() as tx:
        tx.append_batch(audit, "x", [forged])
    assert [one.action for one in audited(db)] == ["append", "append"]


def test_a_refusal_inside_of_write_is_recorded_after_it(db: varve.Varve) -> None:
    """Never in the transaction that it refuses, whether that is caught and committed or not."""
    handle = db.scoped(append=["orders/7"], audit="audit")
    orders = handle.stream("orders", Note)

    def both(tx: varve.WriteTransaction) -> None:
        tx.append(orders, 7, Note(1))
        with pytest.raises(varve.PermissionRefused):
            tx.append(orders, 8, Note(2))
        assert audited(db) == []

    handle.write(both)
    assert [one.target for one in audited(db)] == ["orders/8"]
    with pytest.raises(varve.PermissionRefused):
        handle.write(lambda tx: tx.append(orders, 9, Note(1)))
    assert [one.target for one in audited(db)] == ["orders/8", "orders/9"]
    last = db.global_reader().get(db.next_global_sequence - 1)
    assert last is not None
    assert (last.stream, last.commit_sequence) == ("audit", db.next_global_sequence - 1)
    assert handle.refusals.failed == 0


def test_a_refusal_inside_of_another_handles_write_waits_for_the_next(db: varve.Varve) -> None:
    """Nothing but the function's own transaction can be committed there, and nobody tells the handle when that ends."""
    handle = db.scoped(audit="audit")
    db.write(lambda _: refuse(handle))
    assert audited(db) == []
    refuse(handle)
    assert [one.target for one in audited(db)] == ["nothing-0", "nothing-0"]
    assert handle.refusals == varve.Refusals(2, 2, 0, 0)


def test_a_flood_of_refusals_is_counted_and_not_written(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many in a time; the first record after it tells how many were left out."""
    monkeypatch.setattr(limits, "AUDIT_REFUSALS_MAX", 5)
    now = 0.0
    handle = db.scoped(audit="audit")
    stream = db.stream("audit", varve.AccessRefused)
    handle._scope.auditor = Auditor(db._engine, stream, lambda: now)
    refuse(handle, 20)
    assert len(audited(db)) == 5
    assert handle.refusals == varve.Refusals(20, 5, 15, 0)
    now = limits.AUDIT_WINDOW_S
    refuse(handle, 2)
    assert [one.left_out for one in audited(db)] == [0, 0, 0, 0, 0, 15, 0]


def test_what_waits_to_be_recorded_is_bounded(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside of a write nothing can be recorded: what is too much is counted."""
    monkeypatch.setattr(limits, "AUDIT_PENDING_MAX", 3)
    handle = db.scoped(audit="audit")
    handle.write(lambda _: refuse(handle, 10))
    refuse(handle)
    assert [one.left_out for one in audited(db)] == [0, 0, 0, 7]


def test_a_refusal_that_cannot_be_recorded_is_raised_all_the_same(
    db: varve.Varve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is full, or anything else: the log says so, and the record waits."""
    handle = db.scoped(audit="audit")
    broken: list[Exception] = [varve.DiskFull("no room"), RuntimeError("anything")]
    append = varve.Stream.append

    def failing(self: varve.Stream[Any], *given: Any, **options: Any) -> varve.Position:
        if broken:
            raise broken.pop()
        return append(self, *given, **options)

    monkeypatch.setattr(varve.Stream, "append", failing)
    with caplog.at_level(logging.WARNING, "varve"):
        refuse(handle, 2)
    assert caplog.text.count("could not be recorded") == 2
    assert handle.refusals == varve.Refusals(2, 0, 0, 2)
    assert audited(db) == []
    refuse(handle)
    assert [one.target for one in audited(db)] == ["nothing-0", "nothing-1", "nothing-0"]


def test_a_readonly_store_has_no_audit(varve_path: Path) -> None:
    """That is said when the handle is made, not when something is refused; without one it works."""
    with varve.open(varve_path, durability="relaxed") as db:
        db.stream("notes", Note).append(1, Note(1))
    with varve.open(varve_path, readonly=True) as db:
        with pytest.raises(varve.ReadonlyStore):
            db.scoped(audit="audit")
        handle = db.scoped(read=["notes"])
        assert handle.stream("notes", Note).reader().length(1) == 1
        refuse(handle)
        with pytest.raises(varve.ReadonlyStore):
            handle.transaction()


def test_what_was_asked_for_cannot_spoil_the_record(db: varve.Varve) -> None:
    """Long text is cut, and text that no UTF-8 has is replaced."""
    handle = db.scoped(audit="audit", consumers=[])
    name = "x" * 255
    with pytest.raises(varve.PermissionRefused):
        handle.consumer(name)
    with pytest.raises(varve.PermissionRefused):
        handle.global_reader().iter_stream(name, "y" * 255)
    reader = db.scoped(read=["none"], audit="audit")
    with pytest.raises(varve.InvalidInput):
        reader.global_reader().iter_stream("orders", "\ud800")
    assert [len(one.target) for one in audited(db)] == [255, 511]


def test_many_threads_are_refused_at_once(db: varve.Varve) -> None:
    """Each gets its refusal, and each refusal one record."""
    handle = db.scoped(audit="audit", label="many")
    threads = [threading.Thread(target=refuse, args=(handle, 5)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert handle.refusals == varve.Refusals(40, 40, 0, 0)
    assert len(audited(db)) == 40


def test_the_clock_is_not_needed(db: varve.Varve, varve_clock: ManualClock) -> None:
    """When something was refused is when its record was committed."""
    varve_clock.advance(3600)
    refuse(db.scoped(audit="audit"))
    recorded = db.global_reader().get(db.next_global_sequence - 1)
    assert recorded is not None
    assert recorded.time_ns >= varve_clock()
