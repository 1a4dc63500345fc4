"""`skyclaw backup` and `skyclaw restore`, with a coordinator that runs, is stopped, or was there before."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from skyclaw.store.sqlite import open_sqlite
from tests.entrypoints.conftest import Call
from tests.store.histories import fill
from tests.support.real_processes import CoordinatorProcess, wait_until

JOB = {"payload": {"kind": "shell", "command": "true"}}


@pytest.fixture
def database(tmp_path: Path, environ: dict[str, str]) -> Path:
    """A database with some events, of nobody who runs."""
    path = tmp_path / "data" / "coordinator.db"
    with closing(open_sqlite(path, "kitchen")) as store:
        fill(store, 30)
    environ["SKYCLAW_DB_PATH"] = str(path)
    return path


def who(path: Path) -> tuple[str, str]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        found: tuple[str, str] = connection.execute("SELECT node, log FROM identity").fetchone()
        return found


def test_a_backup_says_whose_it_is_and_how_far_it_goes(call: Call, database: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    said = call("backup", str(target))
    node, log = who(database)
    assert said.code == 0
    assert said.out.splitlines()[0] == f"{target} is a sound copy of {node}, of log {log}"
    assert said.out.splitlines()[2].split() == [log, "0.1.node#1", "30", "2023-11-14T22:13:20Z"]
    assert target.stat().st_mode & 0o777 == 0o600
    assert call("backup", str(target)).code == 3
    told = json.loads(call("backup", str(target), "--replace", "--json").out)
    assert (told["file"], told["node"], told["log"], told["logs"][0]["end"]) == (str(target), node, log, 30)


def test_a_restored_database_is_a_new_node(call: Call, database: Path, tmp_path: Path) -> None:
    target, place = tmp_path / "copy.db", tmp_path / "new" / "place.db"
    call("backup", str(target))
    said = call("restore", str(target), SKYCLAW_DB_PATH=str(place))
    node, log = who(place)
    assert said.code == 0
    assert said.out.splitlines()[0] == f"{place} is in place, for the new node {node}"
    assert f"these are copies, whose owners go on with them; the node founds log {log} when it is started" in said.err
    assert node != who(database)[0]
    assert log != who(database)[1]


def test_alone_it_keeps_its_log_and_the_label_is_as_set(call: Call, database: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    call("backup", str(target))
    former = who(database)
    asked = call("restore", str(target), "--alone", "--replace", SKYCLAW_COORDINATOR_NODE_ID="attic")
    assert (asked.code, asked.out) == (2, "")
    assert f"the database {database} is put aside, and whoever turns up later loses" in asked.err
    assert f"beyond this backup: {former[1]} after event 30; nothing was done, the same command with --i-know does it\n" in asked.err
    assert who(database) == former
    assert list(database.parent.glob("*.replaced*")) == []
    said = call("restore", str(target), "--alone", "--i-know", "--replace", SKYCLAW_COORDINATOR_NODE_ID="attic")
    assert said.code == 0
    assert f"the database that was there is {database}.replaced-1 now" in said.err
    assert "it owns these logs as soon as it is started; what came after their last events is lost" in said.err
    assert who(database)[0].startswith("attic#")
    assert who(database)[1] == former[1]
    assert who(database.with_name(f"{database.name}.replaced-1")) == former


def test_json_tells_who_it_is_now(call: Call, database: Path, tmp_path: Path) -> None:
    call("backup", str(tmp_path / "copy.db"))
    told: dict[str, Any] = json.loads(call("restore", str(tmp_path / "copy.db"), "--replace", "--json").out)
    assert (told["node"], told["log"]) == who(database)
    assert (told["alone"], told["kept"], told["contents"]["logs"][0]["end"]) == (False, f"{database}.replaced-1", 30)


def test_wrong_input_changes_nothing(call: Call, database: Path, tmp_path: Path) -> None:
    before = database.read_bytes()
    (tmp_path / "letter").write_text("Dear all, " * 50)
    call("backup", str(tmp_path / "copy.db"))
    (tmp_path / "half.db").write_bytes((tmp_path / "copy.db").read_bytes()[:8192])
    wrong = [
        (("restore", str(tmp_path / "nothing")), "cannot be read"),
        (("restore", str(tmp_path / "letter"), "--replace"), "is not an SQLite file"),
        (("restore", str(tmp_path / "half.db"), "--replace"), "database is damaged"),
        (("restore", str(tmp_path / "copy.db")), "--replace puts it aside"),
        (("backup", str(tmp_path)), "is a directory"),
        (("backup", str(database)), "belongs to the database itself"),
    ]
    for words, sentence in wrong:
        said = call(*words)
        assert (said.code, said.out) == (3, "")
        assert sentence in said.err
    for words in (("restore",), ("backup",), ("backup", "a", "b")):
        assert call(*words).code == 2
    for verb in ("restore", "backup"):
        assert "there is no file to copy" in call(verb, "x", SKYCLAW_DATABASE_URL="memory://").err
    assert database.read_bytes() == before
    assert sorted(os.listdir(database.parent)) == [database.name]


def test_a_running_coordinator_is_copied_and_not_replaced(call: Call, tmp_path: Path) -> None:
    coordinator = CoordinatorProcess(tmp_path)
    coordinator.start()
    database, target = tmp_path / "coordinator.db", tmp_path / "copy.db"
    try:
        accepted = [coordinator.post("/v1/jobs", JOB)["job"]["id"] for _ in range(5)]
        said = call("backup", str(target), SKYCLAW_DB_PATH=str(database))
        assert said.code == 0, said.err
        coordinator.post("/v1/jobs", JOB)
        said = call("restore", str(target), "--replace", "--alone", "--i-know", SKYCLAW_DB_PATH=str(database))
        assert said.code == 3
        assert f"is locked by pid {coordinator.process.pid if coordinator.process else 0}" in said.err
        assert len(coordinator.get("/v1/jobs")["jobs"]) == 6
    finally:
        coordinator.stop()
    said = call("restore", str(target), "--replace", "--alone", "--i-know", SKYCLAW_DB_PATH=str(database))
    assert said.code == 0, said.err
    coordinator.start()
    try:
        wait_until(lambda: coordinator.get("/health")["ready"], "the restored coordinator is ready")
        assert [job["id"] for job in reversed(coordinator.get("/v1/jobs")["jobs"])] == accepted
        assert coordinator.post("/v1/jobs", JOB)["job"]["status"] == "queued"
    finally:
        coordinator.stop()


def test_ctrl_c_leaves_nothing_behind(database: Path, environ: dict[str, str], tmp_path: Path) -> None:
    with closing(open_sqlite(database, "kitchen")) as store:
        fill(store, 20_000, f'{{"stdout":"{"x" * 2000}"}}', at_once=500)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, "-m", "skyclaw", "backup", str(folder / "copy.db"), "--replace"],
            cwd=tmp_path,
            env=environ,
            stderr=subprocess.PIPE,
        )
        wait_until(lambda: list(folder.glob("*.part")) or process.poll() is not None, "it has begun")  # noqa: B023 awaited at once
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        if process.returncode != 0:
            break  # otherwise it was done before it was interrupted
        (folder / "copy.db").unlink()
    assert (process.returncode, err) == (130, b"[skyclaw] interrupted\n")
    assert list(folder.iterdir()) == []
