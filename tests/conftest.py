"""For all tests: the fixtures ``varve_path``, ``varve_store`` and ``varve_clock``, also where varve-store is not installed;
and an eye on who opens LMDB's lock file."""

import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # torture/ is found from the checkout, not installed

from torture.opens import Audit

_PLUGIN = "varve.testing.plugin"

# An installed varve-store brings the plugin by its entry point, and pytest refuses a second registration.
pytest_plugins = [] if any(point.value == _PLUGIN for point in entry_points(group="pytest11")) else [_PLUGIN]

_AUDIT = Audit()
_AUDIT.begin()


@pytest.fixture(autouse=True)
def _nobody_opens_the_lock_file() -> Iterator[None]:
    """No code of ours opens ``lock.mdb`` while its store is open in the same process: closing it would drop LMDB's locks.
    (What C code opens, and other processes, ``python -m torture locks`` sees.)"""
    before = len(_AUDIT.found)
    yield
    found = _AUDIT.found[before:]
    assert not found, "\n".join(found)


@pytest.fixture
def lock_file_audit() -> Audit:
    """What was seen so far in this process."""
    return _AUDIT
