"""What a store makes of its log.

optimistic    ``db.optimistic``: decide, commit, decide again where others were faster
processors/   handlers called for events, and the dead letters of what they could not handle
projections/  tables of SQLite that follow the log
snapshots     state at a position, saved beside the log
trees         state with events and objects of users' classes in it, as bytes
history       whether something that was kept is of this history of the log
"""
