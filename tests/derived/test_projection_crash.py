"""Real processes killed with -9 between any two steps of a projection: every event is in the rows exactly once all the same.

A driver forks a child for each step: of what Python does to files (its audit events) and of what SQLite is told (its trace). The
child ends itself there by a signal that nobody can handle; another one looks at what is left, first as a reader, then as whoever
goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from projection_models import Log, fill, logged, open_db, process

DRIVER = """
import signal, sqlite3, traceback
from varve.derived.projections import database

path, scenario = sys.argv[1:]
varve.limits.PROJECTION_BATCH_EVENTS_MAX = varve.limits.PROJECTION_STEP_EVENTS = 30
EVENTS = 50


def dying_at(step):
    steps = []
    def count(what):
        steps.append(what)
        if len(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
    def audit(event, arguments):
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "sqlite3.connect"):
            name = os.path.basename(str(arguments[0]))
            is_change = event != "open" or (arguments[2] & os.O_CREAT and name not in WORKING)
            if "projections" in str(arguments[0]) and is_change:
                count((event, name))
    connect = database._connect
    def traced(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_trace_callback(lambda sql: count(sql) if sql.startswith(WATCHED) else None)
        return connection
    database._connect = traced
    sys.addaudithook(audit)
    return steps

WORKING = ("writer.lock", "switch.lock", "rebuild.lock")
WATCHED = ("COMMIT", "UPDATE", "PRAGMA journal", "PRAGMA wal", "CREATE")


def work(number):
    with open_db(path) as db:
        projection = db.projection(Log, folder=f"{path}/projections/{number}" if scenario == "catch-up" else None)
        steps = dying_at(number)
        projection.catch_up() if scenario == "catch-up" else projection.rebuild()
    return 0


def look(number):
    with open_db(path) as db:
        projection = db.projection(Log, folder=f"{path}/projections/{number}" if scenario == "catch-up" else None)
        try:
            [(rows, distinct, position)] = projection.query(
                "SELECT count(*), count(DISTINCT number), (SELECT position FROM varve_projection) FROM log"
            )
        except varve.ProjectionNotBuilt:
            assert scenario == "catch-up"
            rows = distinct = position = 0
        assert rows == distinct == position, (rows, distinct, position)
        assert scenario == "catch-up" or rows == EVENTS, rows
        projection.close()
        projection = db.projection(Log, folder=projection.folder)
        projection.catch_up()
        assert logged(projection) == list(range(EVENTS))
        assert files_of(projection) == [projection.path.name], files_of(projection)
        assert files_of(projection, ".lock") == sorted(
            [projection.path.with_suffix(".lock").name, "switch.lock", "writer.lock"]
            + ["rebuild.lock"] * (projection.folder / "rebuild.lock").exists()
        )
        assert not list(projection.folder.glob("*-journal"))
    return 0


def child(run, number):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = run(number)
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


number = 0
while True:
    number += 1
    ended = child(work, number)
    assert ended in (0, -signal.SIGKILL), ended
    assert child(look, number) == 0, number
    if ended == 0:
        break
print(number - 1, "steps", flush=True)
"""


@pytest.mark.parametrize("scenario", ["catch-up", "rebuild"])
def test_killed_at_every_step(varve_path: Path, scenario: str) -> None:
    """Of the first catching up, the making of the first generation included; and of a rebuild, up to the switch and
    the removal of the old file."""
    with open_db(varve_path) as db:
        fill(db, 50)
        with db.projection(Log) as projection:
            projection.catch_up()
    with process(DRIVER, varve_path, scenario) as running:
        out, _ = running.communicate(timeout=300)
    assert running.returncode == 0, out
    assert int(out.split()[0]) > 15, out  # they were all counted
    with open_db(varve_path) as db, db.projection(Log) as projection:
        assert logged(projection) == list(range(50))
        assert projection.check().ok
