"""What a store makes of its log.

optimistic    ``db.optimistic``: decide, commit, decide again where others were faster
trees         state with events and objects of users' classes in it, as bytes
snapshots     state at a position, saved beside the log
history       whether something that was kept is of this history of the log
projections/  tables of SQLite that follow the log
"""
