"""What the bytes mean: keys, blocks, index entries and metadata records. Pure functions of bytes, no I/O.

docs/format.md describes the same layouts; tests/layout pins both to golden bytes.
"""
