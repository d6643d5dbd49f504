"""The only room that knows LMDB.

environment  one open LMDB environment: reservation, locks, forks, lingering after a ``with`` block
files        what is checked and made on the file system before LMDB sees it
unfinished   creations that were cut off, made anew
pins         memory of the map that outlives the call that found it
catalog      names, event types and streams by number, remembered in the process
snapshot     one instant of the store: blocks, runs, metadata
plan         a commit worked out: numbers, runs, blocks
put          what a plan puts into the sub-databases
single       the short way of the commonest commit
failures     what a failed commit means
commit       checked appends in, positions out
"""
