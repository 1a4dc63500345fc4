"""What a host runs for a payload, and what it refuses to run."""

from typing import Any

import pytest

from skyclaw.hosting.payloads import Launch, Means, kind_of, launch, timeout_of
from skyclaw.trust.command_policy import CommandRefused, look_up

PROGRAMS = {"bash": "/bin/bash", "openclaw": "/opt/openclaw", "automaton": "/opt/automaton"}
POLICY = look_up([*PROGRAMS, "gone"], PROGRAMS.get, real_path=lambda path: path, work_roots=["/srv"])
MEANS = Means(POLICY, "openclaw", "automaton", timeout_ms=300_000, max_timeout_ms=3_600_000)


def of(**payload: Any) -> Launch:
    return launch({"payload": payload}, MEANS)


def test_a_shell_job_runs_its_command_with_its_arguments_as_they_are() -> None:
    assert of(kind="shell", command="bash", args=["-lc", "", "a b"], cwd="sub", env={"A": "1"}) == Launch(
        ("/bin/bash", "-lc", "", "a b"), {"A": "1"}, "sub"
    )


@pytest.mark.parametrize(
    ("payload", "argv"),
    [
        ({"kind": "openclaw-run"}, ("/opt/openclaw", "run")),
        ({"kind": "openclaw-run", "args": None}, ("/opt/openclaw", "run")),
        ({"kind": "openclaw-run", "args": []}, ("/opt/openclaw",)),
        ({"kind": "openclaw-run", "args": ["agent", "exec"]}, ("/opt/openclaw", "agent", "exec")),
        ({"kind": "automaton-run"}, ("/opt/automaton", "run")),
        ({"kind": "automaton-run", "args": ["x"]}, ("/opt/automaton", "x")),
    ],
)
def test_the_named_commands_get_their_arguments_verbatim_and_run_only_when_there_are_none(
    payload: dict[str, Any], argv: tuple[str, ...]
) -> None:
    assert launch({"payload": payload}, MEANS).argv == argv


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        ({"kind": "teleport"}, "unknown payload kind: teleport"),
        ({"kind": "SHELL", "command": "bash"}, "unknown payload kind: SHELL"),
        ({}, "unknown payload kind: None"),
        ({"kind": "shell", "command": "rm"}, "command not allowed: rm"),
        ({"kind": "shell"}, "command must be a text"),
        ({"kind": "shell", "command": ""}, "command must be a text"),
        ({"kind": "shell", "command": 7}, "command must be a text"),
        ({"kind": "shell", "command": "bash", "args": "-lc"}, "payload.args must be a list of texts"),
        ({"kind": "shell", "command": "bash", "args": [1]}, "payload.args must be a text"),
        ({"kind": "shell", "command": "bash", "args": ["a\0b"]}, "payload.args must not hold a NUL character"),
        ({"kind": "shell", "command": "ba\0sh"}, "command must not hold a NUL character"),
        ({"kind": "shell", "command": "bash", "args": ["\ud800"]}, "payload.args must not hold a lone surrogate"),
        ({"kind": "shell", "command": "bash", "cwd": 3}, "payload.cwd must be a text"),
        ({"kind": "shell", "command": "bash", "cwd": "/etc"}, "cwd not allowed: /etc"),
        ({"kind": "shell", "command": "bash", "cwd": "../up"}, "cwd not allowed: ../up"),
        ({"kind": "shell", "command": "bash", "cwd": "a\0"}, "payload.cwd must not hold a NUL character"),
        ({"kind": "shell", "command": "bash", "env": ["A"]}, "payload.env must be an object of texts"),
        ({"kind": "shell", "command": "bash", "env": {"A": 1}}, "payload.env.A must be a text"),
        ({"kind": "shell", "command": "bash", "env": {"A": "\0"}}, "payload.env.A must not hold a NUL character"),
        ({"kind": "shell", "command": "bash", "env": {"LD_PRELOAD": "x"}}, "environment variable not allowed: LD_PRELOAD"),
        ({"kind": "automaton-run", "args": {}}, "payload.args must be a list of texts"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence(payload: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CommandRefused) as caught:
        launch({"payload": payload}, MEANS)
    assert (str(caught.value), caught.value.exit_code) == (sentence, 126)


def test_a_command_that_is_allowed_but_not_there_has_the_shells_exit_code() -> None:
    with pytest.raises(CommandRefused, match="command not found: gone") as caught:
        of(kind="shell", command="gone")
    assert caught.value.exit_code == 127


def test_an_absolute_folder_is_possible_below_a_work_root() -> None:
    assert of(kind="shell", command="bash", cwd="/srv/data").cwd == "/srv/data"


def test_a_job_without_a_payload_is_refused() -> None:
    with pytest.raises(CommandRefused, match="no payload"):
        launch({"payload": None}, MEANS)


@pytest.mark.parametrize(
    ("job", "timeout_ms"),
    [
        ({"payload": {}}, 300_000),
        ({"payload": {"timeoutMs": 5_000}, "timeoutMs": 9_000}, 5_000),
        ({"payload": {}, "timeoutMs": 9_000}, 9_000),
        ({"payload": {"timeoutMs": 1}}, 1_000),
        ({"payload": {"timeoutMs": -3}}, 1_000),
        ({"payload": {"timeoutMs": 10**12}}, 3_600_000),
        ({"payload": {"timeoutMs": "soon"}}, 300_000),
        ({}, 300_000),
    ],
)
def test_a_job_has_a_time_within_the_hosts_limits(job: dict[str, Any], timeout_ms: int) -> None:
    assert timeout_of(job, MEANS) == timeout_ms


def test_a_kind_is_told_to_people_in_few_characters() -> None:
    assert (kind_of({"payload": {"kind": "shell"}}), kind_of({}), len(kind_of({"payload": {"kind": "x" * 999}}))) == ("shell", "None", 64)
