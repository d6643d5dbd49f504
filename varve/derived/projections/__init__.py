"""Projections: tables in SQLite that follow the log.

``declare.py`` is what users write, ``handle.py`` what they hold. ``place.py`` knows the folder: generations, the pointer to
the one that counts, locks; ``database.py`` one file of it; ``source.py`` reads the log, ``apply.py`` turns events into rows,
``writer.py`` puts them into one transaction with the position, and builds new generations beside the old.
"""
