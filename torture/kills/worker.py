"""The process that forks a round's processes: started with the spoiling library, holding no store."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

from torture.children import tell
from torture.kills.points import POINTS, line_of
from torture.kills.rounds import Setting, play, summary


def main() -> None:
    """Do what the order says."""
    order: dict[str, Any] = json.loads(sys.argv[1])
    for name in POINTS:
        line_of(name)  # before anything is planted in its place
    gc.freeze()
    folder = Path(order["folder"])
    folder.mkdir()
    if order["do"] == "controls":
        from torture.kills.controls import controls

        for control in controls(folder, order["seed"]):
            tell(name=control.name, caught=control.caught, how=control.how)
        return
    for number, kills in order["rounds"]:
        result = play(order["seed"], number, folder / "round", Setting(), kills)
        tell(round=number, **summary(result))


if __name__ == "__main__":
    main()
