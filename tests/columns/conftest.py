"""``column_models`` is importable as one module."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
