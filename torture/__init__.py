"""The torture rack: harnesses that try to make Varve lose, invent or serve wrong events, each with faults planted to show
that it would notice.

``python -m torture`` runs the parts (``make torture`` runs all of them for hours). Each part is a module or a folder here
with an object ``PART`` (see ``torture.part``); ``tests/torture`` runs each small, with its controls.
docs/reliability.md says what each part tests and what it found.

The rack uses Varve as a user would, except where it has to stand between Varve and the operating system.
"""
