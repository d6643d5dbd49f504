"""Makes the event classes of the codec's tests importable here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "codec"))
sys.path.insert(0, str(Path(__file__).parents[1] / "codec" / "conformance"))
