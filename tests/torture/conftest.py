"""The rack is a package beside ``varve``: found from the checkout, not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
