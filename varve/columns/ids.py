"""Stream ids of a column of events: one for all, or one for each, as runs of neighbours with the same id."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any
from uuid import UUID

from varve.columns.extras import need_pyarrow
from varve.columns.given import as_arrow, readable
from varve.errors import InvalidInput, InvalidStreamId
from varve.layout.keys import encode_stream_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

Runs = list[tuple[bytes, int, int]]
"""Id key, first row and the row behind the last one, of neighbours with the same id."""


def is_single(stream_ids: object) -> bool:
    """Whether it is one id, right or wrong, not one for each event."""
    return isinstance(stream_ids, (int, str, UUID, bytes, bytearray, dict, set, frozenset)) or not _has_length(
        stream_ids
    )


def _has_length(given: Any) -> bool:
    return hasattr(given, "__len__") and getattr(given, "ndim", 1) > 0


def runs_of(stream_ids: Any) -> Runs:
    """An id for each event, as runs. Raises ``InvalidStreamId``, ``InvalidInput``."""
    import numpy as np

    if isinstance(stream_ids, np.ma.MaskedArray) and np.ma.is_masked(stream_ids):
        raise _refused(InvalidStreamId("a stream id is missing"), int(np.ma.getmaskarray(stream_ids).argmax()))
    if not isinstance(stream_ids, np.ndarray | list | tuple):
        stream_ids = _opened(stream_ids)
    if isinstance(stream_ids, list | tuple | range):
        if set(map(type, stream_ids)) == {int}:
            try:
                stream_ids = np.frombuffer(array("Q", stream_ids), "=u8")
            except OverflowError:
                return _by_id(stream_ids)
        else:
            return _by_id(stream_ids)
    values = np.asarray(stream_ids)
    if values.ndim != 1:
        raise InvalidInput(f"stream_ids has {values.ndim} dimensions; it is one id, or one for each event")
    if values.dtype.kind in "mM":  # times, which some units would give as ints
        return _by_id(list(values))
    return _by_array(values) if values.dtype.kind in "iu" else _by_id(values.tolist())


def _opened(stream_ids: Any) -> Any:
    """Arrow's as an array or a list, anything else as it is."""
    with readable("stream_ids"):
        arrow = as_arrow(stream_ids)
        if arrow is None:
            return stream_ids
        is_number = need_pyarrow("an Arrow column").types.is_integer(arrow.type) and not arrow.null_count
        return arrow.to_numpy(zero_copy_only=False) if is_number else arrow.to_pylist()


def _by_array(values: NDArray[Any]) -> Runs:
    """Ids that are numbers."""
    import numpy as np

    if not len(values):
        return []
    if int(values.min()) < 0:
        row = int((values < 0).argmax())
        raise _refused(InvalidStreamId(f"stream id {values[row]} is outside 0 .. 2^64-1"), row)
    starts = np.flatnonzero(values[1:] != values[:-1]) + 1
    starts = np.concatenate((np.zeros(1, starts.dtype), starts))
    ids = values[starts].tolist()
    known = {number: encode_stream_id(number) for number in set(ids)}
    begins: list[int] = starts.tolist()
    return list(zip(map(known.__getitem__, ids), begins, [*begins[1:], len(values)], strict=True))


def _by_id(values: Sequence[Any]) -> Runs:
    """Ids of any kind, one after the other."""
    known: dict[tuple[type, Any], bytes] = {}
    keys: list[bytes] = []
    for row, stream_id in enumerate(values):
        try:
            key = known.get((type(stream_id), stream_id))
            if key is None:
                key = known[type(stream_id), stream_id] = encode_stream_id(stream_id)
        except InvalidStreamId as exc:
            raise _refused(exc, row) from None
        except TypeError:  # unhashable
            raise _refused(InvalidStreamId(f"a {type(stream_id).__name__} is no stream id"), row) from None
        keys.append(key)
    return list(_joined(keys))


def _joined(keys: list[bytes]) -> Iterable[tuple[bytes, int, int]]:
    begin = 0
    for row in range(1, len(keys) + 1):
        if row == len(keys) or keys[row] != keys[begin]:
            yield keys[begin], begin, row
            begin = row


def _refused(error: InvalidStreamId, row: int) -> InvalidStreamId:
    error.add_note(f"it was row {row} of stream_ids; nothing was written")
    return error
