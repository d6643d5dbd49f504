"""Makes ``derived_models`` importable under ``--import-mode=importlib``, here and in subprocesses."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
