"""For tests of code that uses Varve: a temporary store that is checked afterwards, a clock that stands still, and given, when,
then for deciders and aggregates.

With pytest the fixtures ``varve_store``, ``varve_path`` and ``varve_clock`` are there as soon as varve-store is
installed.
"""

from varve.testing.clock import ManualClock
from varve.testing.scenarios import Given, When, given
from varve.testing.store import assert_sound, temporary_store

__all__ = ["Given", "ManualClock", "When", "assert_sound", "given", "temporary_store"]
