"""State beside the log: values by key, as they are now, changed in the same commits as events are written.

view.py       reading: values and ranges, of whatever source
changes.py    what is done to a key, and the effect that does it inside a commit
numbers.py    additions within bounds
live.py       ``db.state``: each change a commit of its own
draft.py      ``tx.state``: changes that wait for the transaction's commit
reads.py      what a transaction has read, and whether it still holds
readers.py    stream readers of a transaction, which note what was read
checks.py     ``tx.require`` and its kin
work.py       all of that together, as a transaction carries it
"""
