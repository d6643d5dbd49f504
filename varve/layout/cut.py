"""A part of a block as a block of its own."""

from __future__ import annotations

from varve.layout.block import Block
from varve.layout.draft import BlockDraft
from varve.layout.slices import slices


def cut(block: Block, start: int, stop: int) -> bytes:
    """The frame of the events ``start .. stop`` (indexes in the block, at least one), which ends in whole commits or not.

    What the block declares goes where it is first needed: numbers are given in the order of first use, so every number above
    those that the events before use belongs to the part, or to what is behind it.
    """
    draft = BlockDraft(block.first + start, block.commit_of(start)[0])
    _declare(draft, block, start, stop)
    keys = {commit: (token, digest) for commit, token, digest in block.commit_keys()} if not block.is_plain else {}
    firsts, times = block.commit_firsts(), block.commit_times()
    begun = -1
    for piece in slices(block, start, stop):
        if piece.commit != begun:
            begun = piece.commit
            draft.begin_commit(times[begun])
            if begun in keys and firsts[begun] >= draft.first:
                draft.add_key(*keys[begun])
        count = piece.stop - piece.start
        if piece.metadata is not None:
            draft.add_metadata(count, piece.metadata)
        spans = map(block.span, range(piece.start, piece.stop))
        bufs = [bytes(block.data[first:last]) for first, last in spans]
        draft.add(piece.run.stream, piece.run.type, piece.first_stream_sequence, bufs)
    return draft.encode()


def _declare(draft: BlockDraft, block: Block, start: int, stop: int) -> None:
    if block.is_plain:
        return
    streams, types = _highest(block, start)
    streams_end, types_end = _highest(block, stop)
    is_last = stop == block.count
    store = block.store()
    if store is not None and not start:
        draft.declare_store(*store)
    declared = block.declared_streams()
    names = max((name for number, name, _ in declared if number <= streams), default=-1)
    names_end = max((name for number, name, _ in declared if number <= streams_end), default=-1)
    for number, name in block.declared_names():
        if names < number and (is_last or number <= names_end):
            draft.declare_name(number, name)
    for number, name, schema in block.declared_types():
        if types < number and (is_last or number <= types_end):
            draft.declare_type(number, name, schema)
    for number, name_number, id_key in declared:
        if streams < number and (is_last or number <= streams_end):
            draft.declare_stream(number, name_number, id_key)


def _highest(block: Block, stop: int) -> tuple[int, int]:
    """The highest stream and type number that the events before index ``stop`` use; -1 where there are none."""
    streams = types = -1
    at = 0
    for stream, type_number, _, count in block.run_columns():
        if at >= stop:
            break
        streams, types = max(streams, stream), max(types, type_number)
        at += count
    return streams, types
