"""The only room that knows LMDB.

opened       what every open environment can do
environment  one open LMDB environment: reservation, locks, forks, lingering after a ``with`` block
files        what is checked and made on the file system before LMDB sees it
creation     a new store's first pages, whole or not there; creations that were cut off, made anew
pages        LMDB's file read page by page, for whoever looks at one that may be damaged
instant      a file at one instant, for those who look at the whole of it
examine      opening a file that cannot be trusted
fresh        a new store made from pairs
pins         memory of the map that outlives the call that found it
catalog      names, event types and streams by number, remembered in the process
snapshot     one instant of the store: blocks, runs, metadata
plan         a commit worked out: numbers, runs, blocks
put          what a plan puts into the sub-databases
single       the short way of the commonest commit
failures     what a failed commit means
commit       checked appends in, positions out
request      what a commit is asked for and what it answers, free of LMDB's words
side         tables beside the log, changed by effects that ride on commits
keyvalues    keys and values in an environment of their own, beside the store's
writer       who may write, one write transaction at a time
group        appends that wait at the same time share one commit
hints        a datagram to every process that watches
core         the engine as the rest of Varve sees it
"""
