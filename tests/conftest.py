"""The fixtures ``varve_path``, ``varve_store`` and ``varve_clock``, also where varve-store is not installed."""

from importlib.metadata import entry_points

_PLUGIN = "varve.testing.plugin"

# An installed varve-store brings the plugin by its entry point, and pytest refuses a second registration.
pytest_plugins = [] if any(point.value == _PLUGIN for point in entry_points(group="pytest11")) else [_PLUGIN]
