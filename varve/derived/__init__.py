"""What a store makes of its log and its state; a ``Varve`` leads to all of it.

optimistic.py   ``db.optimistic``: decide, commit, decide again where others were faster
projections/    tables in SQLite that follow the log
"""
