"""Makes ``codec_models`` importable under ``--import-mode=importlib``, as one module for tests and pickles alike."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
