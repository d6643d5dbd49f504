"""Varve beside what one would pick instead, and beside the limits of the machine.

    peers.py   what a peer has to do, and which there are
    cases.py   the cases, one for each peer
    limits.py  a bare durable put, a bare fsync, a memcpy, a bare loop
    adapters/  raw sqlite3, raw py-lmdb, rocksdict, eventsourcing on SQLite, py-event-sourcing, umadb on loopback

Peers that are not installed (``pip install varve-store[compare]``) are named as left out. A peer keeps the events in the way
that its own documentation shows; where there is a choice it gets the faster one. What it stores is summed after each round.
"""
