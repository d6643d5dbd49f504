"""What a store makes of its log: state derived from events, which can be made of them again.

trees       state with events and objects of users' classes in it, as bytes
snapshots   state at a position, saved beside the log
projections SQLite tables that follow the log
"""
