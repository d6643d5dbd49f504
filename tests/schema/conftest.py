"""Makes the helpers of this folder and those of the codec's tests importable."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "codec"), str(HERE.parent / "codec" / "conformance")]
