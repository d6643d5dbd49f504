"""``python -m varve.cli``: the same as ``varve``."""

from varve.cli import main

main()
