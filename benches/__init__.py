"""Measurements of Varve against bare py-lmdb (its codec: against the official FlatBuffers runtime), in pairs that run
alternately on the same machine.

    python -m benches                 every case at its real size (about ten minutes)
    python -m benches --quick         small sizes (about half a minute); ratios are rougher
    python -m benches --only get      the cases whose name contains "get"
    python -m benches --json out.json the same figures for a program

A machine's speed changes from minute to minute, so no absolute rate is a result here: both sides of a pair take turns, what
counts is the median of their ratios, and a bootstrap interval tells how far to trust it. Both sides write at the same
durability, which each line names, and every round compares checksums of what was written or read.

Where to look:

    pairs.py      the pair runner: alternate, compare checksums, median and interval
    report.py     goals, lines, the table, JSON
    workspace.py  the temporary folder, and stores that several cases read
    events.py     the events: four fields, a fixed seed
    baselines.py  bare py-lmdb: one entry per event
    codec_*.py    what the codec's cases encode and read, and the other sides: the official runtime, msgspec (optional)
    cases_*.py    the cases, a group per file; ``CASES`` at their end
"""
