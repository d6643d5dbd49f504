"""Read a stream from another process while the writer lives.

The script starts itself a second time as the reader. The reader opens the store once, read-only; every call sees what
is committed at that moment, so it finds new events without being told and without opening the store again.

python examples/second_process.py [FOLDER]    (a temporary folder by default)
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import varve


@varve.event
class Measured:
    """A thermometer was read."""

    celsius: float


def write(path: Path) -> None:
    """Append measurements, and let the reader look before and after the last two."""
    with varve.open(path) as db:
        thermometer = db.stream("thermometer", Measured)
        thermometer.append_batch("roof", [Measured(18.5), Measured(19.0), Measured(19.5)])

        command = [sys.executable, __file__, str(path), "--read"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
            assert reader.stdin is not None
            assert reader.stdout is not None
            print(f"reader: {reader.stdout.readline().rstrip()}", flush=True)

            thermometer.append("roof", Measured(20.0))
            thermometer.append("roof", Measured(20.5))
            print(f"writer: appended two more, {thermometer.reader().length('roof')} by now", flush=True)

            reader.stdin.write("look again\n")
            reader.stdin.flush()
            print(f"reader: {reader.stdout.readline().rstrip()}", flush=True)
        if reader.returncode != 0:
            sys.exit(f"the reader ended with exit code {reader.returncode}")


def read(path: Path) -> None:
    """Print what is there, and again each time a line arrives on stdin."""
    with varve.open(path, readonly=True) as db:
        thermometer = db.stream("thermometer", Measured).reader()
        while True:
            values = [recorded.event.celsius for recorded in thermometer.iter_stream("roof")]
            print(f"{len(values)} measurements, the latest {values[-1]} degrees", flush=True)
            if not sys.stdin.readline():
                return


if __name__ == "__main__":
    if "--read" in sys.argv:
        read(Path(sys.argv[1]))
    elif len(sys.argv) > 1:
        write(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder, "store"))
