"""Columns in and out: arrays instead of events.

A module here has ``CASES``; its lines name the goals ``sum-checked``, ``sum-first``, ``sum-strings``, ``columns-blocks`` and
``columns-durable``.
"""
