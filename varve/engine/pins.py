"""Memory of the map that stays mapped and unchanged for as long as any slice of it lives.

py-lmdb's own memoryviews are bare pointers: when their transaction ends they silently show other bytes, and after
``env.close()`` they crash the process. Nothing of that kind leaves the engine. A *pin* is an object that exports the
address space through the buffer protocol and holds the read transaction as an attribute; every view handed out is a
slice of a memoryview of a pin. Python's own reference counting does the rest: the last slice to die drops the
memoryview, which drops the pin, which drops the transaction, whose C destructor frees the reader slot (and, for the
last one of an environment that was let go, unmaps the file). No code of ours runs then, so nothing can deadlock inside
the garbage collector.

The pin is a ctypes array of bytes from address 0, so that a value is the slice ``[address : address + length]``
whatever the map's own address is: one pin serves every value of a snapshot. Measured against the alternatives (per
snapshot / per value, CPython
3.11): this 0.4 / 0.3 us; one ctypes array per value 0.8 us; PEP 688 ``__buffer__`` 0.7 us and only from 3.12; a numpy
subclass
0.8 us and a dependency.

The address of a value is read out of the memoryview object, at an offset found at import with a buffer whose address is
known; where that does not work (another object layout) ``PyObject_GetBuffer`` is asked, at 0.8 us.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import time
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from varve import limits
from varve.logs import WARNING, say

if TYPE_CHECKING:
    import lmdb

_ADDRESS_SPACE_BYTES = 1 << 62


class _Pin(ctypes.c_ubyte * _ADDRESS_SPACE_BYTES):  # type: ignore[misc]
    """The owner of a snapshot's memory: holds the transaction, has no finaliser."""

    transaction: Any
    snapshot_id: int
    begun_s: float
    last_page: int
    warned: bool


class _PyBuffer(ctypes.Structure):
    """CPython's ``Py_buffer``."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


def address_by_protocol(view: memoryview) -> int:
    """Address of a view's first byte, through ``PyObject_GetBuffer``."""
    buffer = _PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    try:
        return buffer.buf or 0
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))


def _calibrate() -> Callable[[memoryview], int]:
    """The fastest way to a view's address that gives right answers here."""
    word = ctypes.sizeof(ctypes.c_size_t)
    probes = [(ctypes.c_ubyte * size)() for size in (64, 4096, 100_000)]
    views = [memoryview(probe) for probe in probes] + [memoryview(probe)[8:24] for probe in probes]
    wanted = [ctypes.addressof(probe) for probe in probes] + [ctypes.addressof(probe) + 8 for probe in probes]
    read = ctypes.c_size_t.from_address
    base = object.__basicsize__
    for offset in range(base, min(map(sys.getsizeof, views)) - word + 1, word):
        if all(read(id(view) + offset).value == address for view, address in zip(views, wanted, strict=True)):
            return lambda view: read(id(view) + offset).value
    return address_by_protocol


address_of = _calibrate()
"""``address_of(view)`` -> the address of its first byte."""


class LivePin(NamedTuple):
    """A pin as ``Pins.live`` reports it: LMDB's number of its instant, its age, the last page of the file when it
    began."""

    snapshot_id: int
    age_s: float
    last_page: int


class Pins:
    """The live pins of one environment.

    Thread-safe without a lock, since the garbage collector may run inside any of this and end pins: the list stays the
    same object, every change of it is one ``append`` or ``remove``.
    """

    def __init__(self) -> None:
        self._live: list[weakref.ref[_Pin]] = []

    def pin(
        self, transaction: lmdb.Transaction[memoryview], snapshot_id: int, last_page: Callable[[], int]
    ) -> memoryview | None:
        """The address space, read-only, kept by ``transaction``; None when too many snapshots are alive already.

        A pin of the same instant is used again: views of an idle store share one reader slot.
        """
        live = self._live
        if live:
            latest = live[-1]()
            if latest is not None and latest.snapshot_id == snapshot_id:
                return memoryview(latest).cast("B").toreadonly()
            if len(live) >= limits.PINNED_SNAPSHOTS_MAX and self.count >= limits.PINNED_SNAPSHOTS_MAX:
                return None
        pin = _Pin.from_address(0)
        pin.transaction = transaction
        pin.snapshot_id = snapshot_id
        pin.begun_s = time.monotonic()
        pin.last_page = last_page()
        pin.warned = False
        live.append(weakref.ref(pin))
        return memoryview(pin).cast("B").toreadonly()

    def live(self) -> list[LivePin]:
        """Every live pin, oldest first."""
        now = time.monotonic()
        pins = [pin for reference in self._live.copy() if (pin := reference()) is not None]
        return [LivePin(pin.snapshot_id, now - pin.begun_s, pin.last_page) for pin in pins]

    @property
    def count(self) -> int:
        """Live pins."""
        live = self._live
        for reference in live.copy():
            if reference() is None:
                with contextlib.suppress(ValueError):  # another thread was faster
                    live.remove(reference)
        return len(live)

    def warn_of_old(self) -> None:
        """Warn, once for each, of a pin that is older than ``SNAPSHOT_AGE_S_WARN``."""
        for reference in self._live.copy():
            pin = reference()
            if pin is None:
                with contextlib.suppress(ValueError):  # another thread was faster
                    self._live.remove(reference)
                continue
            age_s = time.monotonic() - pin.begun_s
            if age_s <= limits.SNAPSHOT_AGE_S_WARN:
                return  # the ones behind it are younger
            if not pin.warned:
                pin.warned = True
                warn_of_age(age_s)


def warn_of_age(age_s: float) -> None:
    """Warn of a snapshot that has lived so long: through ``warnings``, and through logging."""
    message = (
        f"a snapshot of the store has been alive for {age_s:.0f} s while others commit: until it and its views are dropped, "
        "the file grows with every commit (varve.owned() copies an event)"
    )
    say(WARNING, "%s", message)
    warnings.warn(message, ResourceWarning, stacklevel=2)
