"""`skyclaw doctor`: what it finds on this machine and on the way to the coordinators."""

import json
import os
import sqlite3
from contextlib import closing
from email.utils import formatdate
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from skyclaw.entrypoints import doctor, machine_checks
from skyclaw.entrypoints.machine_checks import FAIL, OK, WARN
from skyclaw.entrypoints.settings import client_settings
from skyclaw.store.sqlite import open_sqlite
from tests.entrypoints.conftest import Call, Served
from tests.support.scripted_server import Asked, Reply, serving

TOKEN = "the-right-token-of-some-length"  # noqa: S105


def test_a_good_machine_and_coordinator_pass(call: Call, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = call("doctor", SKYCLAW_ALLOWED_COMMANDS="sh")
    assert said.code == 0, said.out
    assert "fail" not in said.out
    assert f"ok    coordinator {served.url}: small answers, version 0.1.0\n" in said.out
    assert f"ok    token at coordinator {served.url}: is not needed\n" in said.out


def test_every_failure_names_the_next_thing_to_type_and_the_exit_code_is_1(call: Call) -> None:
    said = call("doctor", "--json", SKYCLAW_COORDINATOR_URL="http://127.0.0.1:1", SKYCLAW_LEASE_MS="x")
    found = json.loads(said.out)
    assert said.code == 1
    assert found["ok"] is False
    failed = {check["check"]: check for check in found["checks"] if check["level"] == FAIL}
    assert "skyclaw dev" in failed["coordinator http://127.0.0.1:1"]["next"]
    assert "SKYCLAW_LEASE_MS=x" in failed["settings"]["text"]
    assert all(check["next"] for check in failed.values())


@pytest.mark.parametrize(
    ("token", "level", "text"), [("", FAIL, "is needed"), ("wrong" * 5, FAIL, "is refused"), (TOKEN, OK, "is accepted")]
)
def test_the_token_is_tried(served: Served, token: str, level: str, text: str) -> None:
    served.small.token = TOKEN
    client = client_settings({"SKYCLAW_COORDINATOR_URL": served.url, "SKYCLAW_TOKEN": token})
    found = list(doctor.coordinator(served.url, client))[-1]
    assert (found.level, found.text) == (level, text)


def test_a_sick_or_degraded_coordinator_is_told_apart(served: Served) -> None:
    client = client_settings({"SKYCLAW_COORDINATOR_URL": served.url})
    served.small.health.update(ready=False)
    assert next(doctor.coordinator(served.url, client)).text == "small answers, but is not ready"
    served.small.health["degraded"] = ["its copies are behind", "its disk is slow"]
    found = next(doctor.coordinator(served.url, client))
    assert (found.level, found.text) == (WARN, "small answers, but its copies are behind; its disk is slow")
    served.small.health["degraded"] = ["the storage is read-only: writes are refused"]
    assert next(doctor.coordinator(served.url, client)).level == FAIL
    served.small.health.update(ok=False, actors={"JobQueue": False})
    assert next(doctor.coordinator(served.url, client)).level == FAIL


def test_something_else_at_the_address_is_a_failure() -> None:
    for reply in (Reply(raw=b"<html>", content_type="text/html"), Reply(say=["x"]), Reply(say={})):
        with serving(lambda _, reply=reply: reply) as server:
            found = list(doctor.coordinator(server.url, client_settings({"SKYCLAW_COORDINATOR_URL": server.url})))
        assert [(one.level, one.text) for one in found] == [(FAIL, "something else than a coordinator answers")]


@pytest.mark.parametrize(("shift", "level", "text"), [(60, WARN, "60 s ahead"), (-60, WARN, "60 s behind"), (1, OK, "agrees")])
def test_the_clocks_are_compared(shift: int, level: str, text: str) -> None:
    found = doctor._clock("x", formatdate(1_000_000 + shift, usegmt=True), 1_000_000.0)
    assert found.level == level
    assert text in found.text


def test_a_coordinator_that_does_not_say_its_time_is_a_warning() -> None:
    assert doctor._clock("x", "", 0.0).level == WARN


def test_what_the_processes_would_warn_about_is_a_warning(call: Call) -> None:
    said = call("doctor", "--json", SKYCLAW_TOKEN="short")  # noqa: S106
    warned = [check["text"] for check in json.loads(said.out)["checks"] if check["check"] == "settings" and check["level"] == WARN]
    assert warned == ["the token is shorter than 16 characters and may be guessed"]


def test_an_allowed_command_that_is_not_installed_is_a_warning() -> None:
    assert machine_checks.commands(("sh",), None).level == OK
    assert "not installed: no-such-command" in machine_checks.commands(("sh", "no-such-command"), None).text
    assert "runs nothing" in machine_checks.commands((), None).text


def test_packages_are_compared_with_what_the_project_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine_checks.packages().level == OK
    monkeypatch.setattr(metadata, "requires", lambda _: ["falcon>=99.1", "orjson>=3", 'pytest>=99; extra == "dev"', "no-such-package>=1"])
    assert machine_checks.packages().text == "missing or too old: falcon>=99.1, no-such-package>=1"


def test_a_home_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert machine_checks.writable(tmp_path / "file").level == FAIL
    assert machine_checks.writable(tmp_path / "new" / "home").level == OK


def test_little_room_is_a_warning_and_hardly_any_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, level in ((10**12, OK), (500 * 1024**2, WARN), (50 * 1024**2, FAIL)):
        monkeypatch.setattr(machine_checks.shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert machine_checks.space(tmp_path / "not" / "yet" / "x.db").level == level


def test_a_database_is_looked_at_without_being_changed(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    assert machine_checks.database(file).text.endswith("will be made")
    log = open_sqlite(file, "node")
    found = machine_checks.database(file)
    assert (found.level, found.text) == (OK, f"{file} is locked by a running coordinator (pid {os.getpid()})")
    log.close()
    before = file.read_bytes()
    assert machine_checks.database(file).text.endswith("can be opened")
    assert file.read_bytes() == before
    assert [beside.name for beside in tmp_path.iterdir()] == ["x.db"]


def test_a_damaged_or_foreign_database_is_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    for content in (b"no database, but long enough to be read as one" * 100, b"short"):
        file.write_bytes(content)
        assert machine_checks.database(file).level == FAIL
    with closing(sqlite3.connect(tmp_path / "y.db")) as connection:
        connection.execute("create table t (x)")
    assert machine_checks.database(tmp_path / "y.db").level == FAIL
    assert machine_checks.database(tmp_path).level == FAIL


def test_an_empty_file_will_become_a_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").touch()
    assert machine_checks.database(tmp_path / "x.db").level == OK


def test_the_health_of_a_coordinator_is_asked_for_without_the_token() -> None:
    seen: list[Asked] = []

    def health(asked: Asked) -> Reply:
        seen.append(asked)
        return Reply(503, {"ok": False, "nodeId": "n"})

    with serving(health) as server:
        list(doctor.coordinator(server.url, client_settings({"SKYCLAW_COORDINATOR_URL": server.url, "SKYCLAW_TOKEN": TOKEN})))
    assert "x-skyclaw-token" not in seen[0].headers
