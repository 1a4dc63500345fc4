"""What coordinators want of a host's services, and what the host makes of it."""

from typing import Any

import pytest

from skyclaw.hosting import service_payloads
from skyclaw.hosting.payloads import Means
from skyclaw.hosting.service_life import Terms
from skyclaw.trust.command_policy import CommandRefused, look_up

MEANS = Means(look_up(["node"], lambda name: f"/bin/{name}", lambda path: path, ["/srv"]), "openclaw", "automaton", 1_000, 1_000)
ENTRY: dict[str, Any] = {
    "instanceId": "ins_0a1b2c3d00000001",
    "serviceId": "svc_0a1b2c3d00000002",
    "name": "web",
    "revision": 3,
    "command": "node",
    "args": ["server.js"],
    "env": {"COLOR": "blue"},
    "health": {"path": "/health", "timeoutMs": 20_000},
    "drainMs": 4_000,
    "state": "run",
    "outputAt": 77,
}


def test_an_answer_is_read() -> None:
    said = {"instances": [ENTRY], "stop": ["ins_1"], "logs": ["0a1b2c3d"], "leaseMs": 9_000, "digest": "00ff00ff"}
    answer = service_payloads.answer(said)
    (wanted,) = answer.wanted
    assert (wanted.name, wanted.revision, wanted.health_path, wanted.bundle, wanted.draining) == ("web", 3, "/health", None, False)
    assert wanted.terms == Terms(20_000, 4_000)
    assert (answer.stop, answer.output_at, answer.lease_ms, answer.digest) == ({"ins_1"}, {wanted.instance_id: 77}, 9_000, "00ff00ff")
    assert answer.speaks_for(wanted.instance_id)
    assert not answer.speaks_for("ins_ffffffff00000001")


@pytest.mark.parametrize(
    "entry",
    [
        "text",
        {},
        {**ENTRY, "instanceId": "../up"},
        {**ENTRY, "instanceId": ""},
        {**ENTRY, "bundle": "not/a/hash"},
    ],
)
def test_entries_that_make_no_sense_are_left_out(entry: object) -> None:
    assert service_payloads.answer({"instances": [entry, ENTRY]}).wanted == service_payloads.answer({"instances": [ENTRY]}).wanted


def test_what_an_answer_does_not_say_has_a_default() -> None:
    answer = service_payloads.answer({"instances": [{"instanceId": "ins_1", "health": None, "state": "drain"}]})
    assert answer.wanted[0].terms == Terms(30_000, 10_000)
    assert answer.wanted[0].draining
    assert (answer.lease_ms, answer.digest, answer.logs) == (15_000, None, frozenset())


def launch(**changes: Any) -> Any:
    (wanted,) = service_payloads.answer({"instances": [{**ENTRY, **changes}]}).wanted
    return service_payloads.launch(wanted, 3_100, "/home/app", MEANS)


def test_a_service_gets_its_port_and_its_name() -> None:
    made = launch()
    assert made.argv == ("/bin/node", "server.js")
    assert made.env == {"COLOR": "blue", "PORT": "3100", "SKYCLAW_SERVICE_NAME": "web"}


@pytest.mark.parametrize(("cwd", "folder"), [(None, "/home/app"), ("sub/x", "/home/app/sub/x"), ("/srv/web", "/srv/web")])
def test_a_service_runs_in_its_folder_below_it_or_below_a_work_root(cwd: str | None, folder: str) -> None:
    assert launch(cwd=cwd).cwd == folder


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"command": "rm"}, "command not allowed: rm"),
        ({"command": None}, "command must be a text"),
        ({"args": [1]}, "payload.args must be a text"),
        ({"env": {"PORT": "1"}}, "environment variable not allowed: PORT"),
        ({"env": {"SKYCLAW_TOKEN": "1"}}, "environment variable not allowed: SKYCLAW_TOKEN"),
        ({"cwd": "../up"}, "cwd not allowed: ../up"),
        ({"cwd": "/etc"}, "cwd not allowed: /etc"),
    ],
)
def test_what_jobs_may_not_services_may_not(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(CommandRefused) as refused:
        launch(**changes)
    assert str(refused.value) == error
