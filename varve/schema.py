"""Schemas as text: what programs in other languages need to read and write the same events."""

from varve.codec.fbs import to_fbs

__all__ = ["to_fbs"]
