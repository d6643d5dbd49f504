"""Measurements of Varve: beside bare py-lmdb, beside what one would pick instead, beside the limits of the machine.

    python -m benches                  every case at its real size, for hours; it goes on where it was cut off
    python -m benches --quick          small sizes, for some minutes; ratios are rougher
    python -m benches --only read/get  one case; a group (``--only replay``); every case with a word in its name
    python -m benches --again          also what is known of this source already
    python -m benches.report           docs/performance.md, made of the results
    python -m pytest benches           Varve's calls by themselves, under pytest-benchmark

A machine's speed changes from minute to minute, so no absolute rate is a result here: both sides of a pair take turns, what
counts is the median of their ratios, and a bootstrap interval tells how far to trust it. Both sides write at the same
durability, which each line names, and every round compares checksums of what was written or read.

Each case runs in a process of its own, and its lines are written to benches/results/SIZE/CASE.json when it is done. A case whose
file says that it was measured with this very source of the library (and of the case) is not measured again.

Where to look:

    goals.py      the table of goals: floors and aims
    pairs.py      the pair runner: alternate, compare checksums, median and interval
    lines.py      what a case gives: a figure, its goal, both sides' medians and spread
    registry.py   which cases there are: modules with ``CASES`` in the groups' folders
    workspace.py  sizes, the folder on a disk, stores that several cases read
    events.py     the events, with a fixed seed: orders; 24, 240 and 1,000 bytes; flights
    baselines.py  bare py-lmdb: one entry per event
    results.py    results as files;  machine.py  what they were measured on
    report.py     the document;  charts.py  its charts
    solo.py       calls by themselves;  test_solo.py  pytest-benchmark

    codec/  append/  read/  replay/  tail/  derived/  columns/  open/  compare/   the groups
"""
