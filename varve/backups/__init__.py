"""Backups: sets of full and incremental ones, how they are written, listed and checked. ``varve.ops`` restores them.

============  =========================================================================
manifest.py   what a backup says of itself, and where it stands: ``Backup``
pairs.py      files of pairs: a stretch of the log, a side table
folder.py     the folder of a set: names, its lock, what was cut off, what stands before what
take.py       a new backup of an open store
check.py      whether a backup is what its manifest says
============  =========================================================================
"""
