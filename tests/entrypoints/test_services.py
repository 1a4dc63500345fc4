"""The verbs about services against a small coordinator over real HTTP: what they send, what they print, how they exit."""

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyclaw.entrypoints import cli, rollout
from tests.entrypoints.conftest import Call, Said
from tests.entrypoints.small_coordinator import AT, refusal
from tests.entrypoints.small_services import SmallServices
from tests.entrypoints.test_tables import on_a_terminal
from tests.support.real_processes import wait_until
from tests.support.scripted_server import Reply, ScriptedServer, serving

SERVICE = "svc_aaaaaaaa-0000-4000-8000-000000000000"
INSTANCES = [f"ins_aaaaaaaa-{number}000-4000-8000-000000000000" for number in range(3)]


@pytest.fixture
def small() -> SmallServices:
    return SmallServices()


@pytest.fixture
def server(small: SmallServices) -> Iterator[ScriptedServer]:
    with serving(small.script) as server:
        yield server


@pytest.fixture
def call(environ: dict[str, str], server: ScriptedServer, capfdbinary: pytest.CaptureFixture[bytes]) -> Call:
    """Runs a command line in this process, against the small coordinator."""

    def run(*words: str, **settings: str) -> Said:
        capfdbinary.readouterr()
        code = cli.main(words, {**environ, "SKYCLAW_COORDINATOR_URL": server.url, **settings})
        out, err = capfdbinary.readouterr()
        return Said(code, out.decode(), err.decode())

    return run


def instance(number: int, **more: object) -> dict[str, object]:
    """An instance in a service's record."""
    about = {"instanceId": INSTANCES[number], "hostId": "host_a", "revision": 1, "status": "running", "updatedAt": AT}
    return {**about, **more}


def wrote(number: int, text: str, status: str = "running") -> dict[str, object]:
    """What an instance wrote, in the coordinator's answer."""
    return {"instanceId": INSTANCES[number], "hostId": "host_a", "revision": 1, "status": status, "text": text, "from": 0, "end": 0}


def test_deploy_service_sends_the_words_untouched_and_prints_the_id_alone(call: Call, small: SmallServices) -> None:
    said = call("deploy-service", "api", "node", "server.js", "--replicas=9", "-x", "1e5", "None", "--", "--help", "")
    path, body, key = small.posted[0]
    assert path == "/v1/services"
    assert body == {"name": "api", "command": "node", "args": ["server.js", "--replicas=9", "-x", "1e5", "None", "--", "--help", ""]}
    assert key
    assert said == Said(0, f"{SERVICE}\n", "")


@pytest.mark.parametrize("name", ["2024", "None", "True", "1e5", "0x10"])
def test_a_name_is_text_whatever_it_looks_like(call: Call, small: SmallServices, name: str) -> None:
    assert call("deploy-service", name, "node").code == 0
    assert small.posted[0][1]["name"] == name
    small.services[SERVICE]["name"] = name
    assert call("scale", name, "2").code == 0
    assert small.posted[-1][:2] == (f"/v1/services/{SERVICE}/scale", {"replicas": 2})


def test_every_option_of_a_deployment_reaches_the_coordinator(call: Call, small: SmallServices) -> None:
    said = call(
        "deploy-service", "--replicas=3", "--cap=gpu,big", "--cap", "gpu", "--env=A=b=c", "--env", "D=", "--cwd=sub", "--health-path=/ok",
        "--health-timeout=5", "--drain=0", "--json", "--", "api", "node",
    )  # fmt: skip
    assert small.posted[0][1] == {
        "name": "api",
        "command": "node",
        "args": [],
        "requiredCapabilities": ["service-host", "gpu", "big"],
        "replicas": 3,
        "env": {"A": "b=c", "D": ""},
        "cwd": "sub",
        "health": {"path": "/ok", "timeoutMs": 5_000},
        "drainMs": 0,
    }
    assert json.loads(said.out)["id"] == SERVICE


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "deploy-service requires <name> <command> [args...]"),
        (["api"], "deploy-service requires <name> <command> [args...]"),
        (["", "node"], "deploy-service requires <name> <command> [args...]"),
        (["api", ""], "deploy-service requires <name> <command> [args...]"),
        (["api", "--replicas=2", "node"], "options stand before the name"),
        (["--replicas=0", "api", "node"], "--replicas=0 must be a whole number from 1 to 64"),
        (["--drain=11m", "api", "node"], "--drain=11m must be from 0ms to 10m"),
        (["--health-timeout=1ms", "api", "node"], "must be from 1s to 10m"),
        (["--health-path=ok", "api", "node"], "must begin with /"),
        (["--env=A", "api", "node"], "no name and value"),
        (["--bundle=/nowhere", "api", "node"], "--bundle=/nowhere is not a folder"),
        (["--replica=2", "api", "node"], "did you mean --replicas?"),
    ],
)
def test_a_wrong_deployment_sends_nothing_and_exits_2(call: Call, server: ScriptedServer, words: list[str], says: str) -> None:
    said = call("deploy-service", *words)
    assert (said.code, said.out) == (2, "")
    assert says in said.err
    assert said.err.count("\n") == 1
    assert server.asked == []


def test_waiting_ends_well_when_the_new_revision_serves(call: Call, small: SmallServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "PAUSE_S", 0.01)
    small.looks = [{}, {"status": "running", "rollout": {"revision": 2, "state": "succeeded"}}]
    said = call("deploy-service", "--wait", "api", "node")
    assert (said.code, said.out) == (0, f"{SERVICE}\n")
    assert "api is running" in said.err


@pytest.mark.parametrize(
    ("look", "reason"),
    [
        (
            {"rollout": {"revision": 2, "state": "failed", "reason": "exit code 3"}, "revision": 1, "assignments": [instance(0)]},
            "failed: exit code 3; skyclaw explain api shows why, host by host",
        ),
        (
            {"rollout": {"revision": 2, "state": "failed", "reason": "exit code 3"}, "assignments": [instance(0, revision=2)]},
            "failed: exit code 3; skyclaw service-logs --all api shows what it wrote",
        ),
        (
            {"rollout": {"revision": 3, "state": "rolling"}, "revision": 3},
            "failed: revision 3 has taken its place; skyclaw service api shows how it is",
        ),
        ({"stopped": True}, "failed: the service was stopped or removed; skyclaw service api shows how it is"),
        (
            {"goodRevision": 0, "status": "failed", "assignments": [instance(0, status="failed", error="exit 1", revision=2)]},
            "does not serve yet: exit 1; it is tried again; skyclaw service-logs api shows what it wrote",
        ),
    ],
)
def test_waiting_exits_1_with_the_reason_and_the_next_command_when_it_does_not(
    call: Call, small: SmallServices, monkeypatch: pytest.MonkeyPatch, look: dict[str, object], reason: str
) -> None:
    monkeypatch.setattr(rollout, "PAUSE_S", 0.01)
    small.looks = [{}, look]
    said = call("deploy-service", "--wait", "api", "node")
    assert (said.code, said.out) == (1, f"{SERVICE}\n")
    assert said.err == f"[skyclaw] revision 2 of api {reason}\n"


def test_what_was_waited_for_is_not_said_once_it_is_over(call: Call, small: SmallServices, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAUSE_S", "REASON_AFTER_S"):
        monkeypatch.setattr(rollout, name, 0.001)
    small.looks = [{"rollout": {"revision": 2, "state": "failed", "reason": "exit code 3"}}]
    assert call("deploy-service", "--wait", "api", "node").err.count("\n") == 1


def test_a_coordinator_that_has_not_heard_of_the_revision_yet_is_asked_again(
    call: Call, small: SmallServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "PAUSE_S", 0.01)
    late = {"rollout": {"revision": 1, "state": "succeeded"}, "status": "running", "goodRevision": 1}
    small.looks = [late, late, {"rollout": {"revision": 2, "state": "succeeded"}}]
    small.unheard = 2
    said = call("deploy-service", "--wait", "api", "node")
    assert (said.code, small.looks) == (0, [])


def test_waiting_says_once_why_it_takes_long(call: Call, small: SmallServices, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAUSE_S", "REASON_AFTER_S", "REASON_AGAIN_S"):
        monkeypatch.setattr(rollout, name, 0.001)
    failed = {"assignments": [instance(0, status="failed", error="exited with code 3")]}
    small.reasons = ["0 of 1 instances are running", "an instance is being started on attic", "the instance before failed: exit 3"]
    small.looks = [{}, {}, {}, failed, failed, {"status": "running", "assignments": []}, {}]
    small.looks.append({"rollout": {"revision": 2, "state": "succeeded"}})
    said = call("deploy-service", "--wait", "api", "node")
    assert said.code == 0
    beginning = "[skyclaw] revision 2 of api does not serve yet: "
    explained = "an instance is being started on attic; the instance before failed: exit 3"
    reasons = [explained, "exited with code 3", explained]
    assert said.err.splitlines()[:-1] == [beginning + reason for reason in reasons]


def test_ctrl_c_lets_go_of_the_rollout(environ: dict[str, str], server: ScriptedServer, small: SmallServices, tmp_path: Path) -> None:
    env = {**environ, "SKYCLAW_COORDINATOR_URL": server.url}
    command = [sys.executable, "-m", "skyclaw", "deploy-service", "--wait", "api", "node"]
    with subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: [asked for asked in server.asked if asked.method == "GET"], "it looks at the rollout")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "skyclaw service api" in err


def test_a_bundle_is_sent_once_and_named_by_its_hash(call: Call, small: SmallServices, server: ScriptedServer, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    (folder / "dist").mkdir(parents=True)
    (folder / "dist" / "server.js").write_text("listen()")
    for _ in range(2):
        assert call("deploy-service", f"--bundle={folder}", "api", "node", "dist/server.js").code == 0
    (sha256, content), *others = small.bundles.items()
    assert others == []
    assert [body["bundle"] for _, body, _ in small.posted] == [sha256, sha256]
    assert sum(asked.method == "PUT" for asked in server.asked) == 1
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content))) as packed:
        names = {name.removeprefix("./") for name in packed.getnames()}
    assert "dist/server.js" in names


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder to be sent along."""
    (folder := tmp_path / "app").mkdir()
    (folder / "server.js").write_text("listen()")
    return folder


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_a_bundle_that_is_too_large_is_told_so_whoever_says_it(call: Call, small: SmallServices, app: Path, content_type: str) -> None:
    small.at_upload = Reply(413, {"error": "too large", "code": "payload_too_large"}, content_type=content_type)
    said = call("deploy-service", f"--bundle={app}", "api", "node")
    assert (said.code, small.posted) == (2, [])
    assert "more than the coordinator's SKYCLAW_MAX_BUNDLE_BYTES" in said.err
    assert said.err.splitlines()[0] == f"[skyclaw] bundle: 1 file, {(size := len(small.tried_bundle))} bytes"
    assert f"makes {size} bytes" in said.err
    assert said.err.count("\n") == 2


def test_what_is_sent_along_and_what_is_left_out_is_said(call: Call, small: SmallServices, app: Path) -> None:
    for name in ("dist", "node_modules/left-pad"):
        (app / name).mkdir(parents=True)
        (app / name / "index.js").write_text("")
    (app / ".gitignore").write_text("dist\nnode_modules/\n*.log\n")
    said = call("deploy-service", f"--bundle={app}", "api", "node")
    assert re.fullmatch(r"\[skyclaw\] bundle: 2 files, \d+ bytes; left out: dist/, node_modules/ \(\.gitignore\)\n", said.err)
    for number in range(6):
        (app / f"{number}.log").write_text("")
    said = call("deploy-service", f"--bundle={app}", "api", "node")
    assert "; left out: 0.log, 1.log, 2.log, 3.log, 4.log and 3 more (.gitignore)" in said.err


def test_a_file_of_our_own_says_in_the_place_of_gitignore_what_is_left_out(call: Call, app: Path) -> None:
    (app / ".gitignore").write_text("server.js\n")
    (app / ".skyclawignore").write_text(".env\n")
    (app / ".env").write_text("SECRET=1")
    (app / "big").write_bytes(os.urandom(20_000))
    said = call("deploy-service", f"--bundle={app}", "api", "node")
    assert re.fullmatch(r"\[skyclaw\] bundle: 3 files, 20 kB; left out: \.env \(\.skyclawignore\)\n", said.err)


def test_an_empty_value_unsets_what_the_former_revision_had(call: Call, small: SmallServices) -> None:
    assert call("deploy-service", "--bundle=", "--cwd=", "--health-path=", "api", "node").code == 0
    assert small.posted[0][1] == {"name": "api", "command": "node", "args": [], "bundle": "", "cwd": "", "health": {"path": ""}}
    assert call("deploy-service", "--drain=", "api", "node").code == 2


def test_the_way_of_a_bundle_is_shown_on_a_terminal(
    environ: dict[str, str], small: SmallServices, server: ScriptedServer, app: Path, tmp_path: Path
) -> None:
    words = ("deploy-service", f"--bundle={app}", "api", "node")
    lines = on_a_terminal(80, words, {**environ, "SKYCLAW_COORDINATOR_URL": server.url}, tmp_path)
    assert any("[skyclaw] bundle" in line for line in lines)
    assert lines[-1].endswith(SERVICE)


def test_list_services_prints_json_for_a_program(call: Call, small: SmallServices) -> None:
    assert call("list-services").out == '{\n  "services": []\n}\n'
    service = small.add("api")
    assert call("list-services").out == json.dumps({"services": [service]}, indent=2) + "\n"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_list_services_is_a_table_on_a_terminal(
    environ: dict[str, str], small: SmallServices, server: ScriptedServer, tmp_path: Path, width: int
) -> None:
    small.add("a-name-that-is-rather-long-for-a-table", "1111", assignments=[instance(0)], replicas=2)
    lines = on_a_terminal(width, ("list-services",), {**environ, "SKYCLAW_COORDINATOR_URL": server.url}, tmp_path)
    assert len(lines) == 2
    assert max(map(len, lines)) <= width
    assert re.search(r"running +1/2 +1 ", lines[1])


def test_one_service_is_shown_with_its_instances_and_revisions(call: Call, small: SmallServices) -> None:
    revisions = [{"revision": 1, "deployedAt": "2026-11-20T12:20:53.796Z", "command": "node", "args": ["a b.js"], "reason": "deployed"}]
    small.add("api", assignments=[instance(0, endpoint="http://h:3100", error="odd \x1b[2J")], revisions=revisions, env={"KEY": "***"})
    said = call("service", "api")
    assert said.code == 0
    assert "http://h:3100" in said.out
    assert "odd \\x1b[2J" in said.out
    assert "node 'a b.js'" in said.out
    assert re.search(r"^environment +KEY$", said.out, re.MULTILINE)
    assert json.loads(call("service", "api", "--json").out)["name"] == "api"


@pytest.mark.parametrize(
    ("words", "path", "body"),
    [
        (["scale", "api", "5"], "scale", {"replicas": 5}),
        (["stop-service", "api"], "stop", {}),
        (["restart", "api"], "restart", {}),
        (["rollback", "api"], "rollback", {}),
        (["rollback", "api", "7"], "rollback", {"revision": 7}),
    ],
)
def test_a_change_is_asked_for_by_id_and_told_in_one_line(
    call: Call, small: SmallServices, words: list[str], path: str, body: dict[str, int]
) -> None:
    small.add("api")
    said = call(*words)
    assert small.posted[0][:2] == (f"/v1/services/{SERVICE}/{path}", body)
    assert small.posted[0][2]
    assert re.fullmatch(r"api is running, [^\n]+\n", said.out)
    assert json.loads(call(*words, "--json").out)["id"] == SERVICE


def test_remove_service_asks_for_its_removal(call: Call, small: SmallServices) -> None:
    small.add("api")
    said = call("remove-service", "api")
    assert (said.out, small.posted[0][0]) == ("api is removed\n", f"/v1/services/{SERVICE}")
    assert small.posted[0][2]


@pytest.mark.parametrize("typed", [SERVICE, SERVICE[:-3], "svc_aaaaaaaa-0", "aaaaaaaa-0", "0000-4", "api"])
def test_a_service_is_found_by_its_name_or_the_beginning_of_its_id(call: Call, small: SmallServices, typed: str) -> None:
    small.add("api")
    small.add("apis", "1111")
    assert json.loads(call("service", typed, "--json").out)["id"] == SERVICE


@pytest.mark.parametrize("typed", ["ap", "svc_", "s", "00", "none"])
def test_the_beginning_of_a_name_means_nothing(call: Call, small: SmallServices, typed: str) -> None:
    small.add("api")
    said = call("remove-service", typed)
    assert said.code == 6
    assert "skyclaw list-services" in said.err
    assert small.posted == []


def test_what_could_mean_two_services_means_neither(call: Call, small: SmallServices) -> None:
    small.add("api")
    small.add("web", "0001")
    said = call("service", "aaaaaaaa")
    assert said.code == 2
    assert "not unique" in said.err


@pytest.mark.parametrize("words", [["scale", "api", "0"], ["scale", "api", "65"], ["scale", "api", "two"], ["rollback", "api", "-"]])
def test_a_number_that_cannot_be_is_refused_here(call: Call, server: ScriptedServer, words: list[str]) -> None:
    said = call(*words)
    assert said.code == 2
    assert "whole number" in said.err
    assert not [asked for asked in server.asked if asked.method == "POST"]


@pytest.mark.parametrize(
    ("statuses", "sentence", "standing"),
    [
        (["draining", "draining", "draining"], "api is stopping, 3 instances end", "stopping"),
        (["running"], "api is stopping, 1 instance ends", "stopping"),
        (["failed"], "api is stopped", "stopped"),
        ([], "api is stopped", "stopped"),
    ],
)
def test_a_stopped_service_is_not_said_to_run(call: Call, small: SmallServices, statuses: list[str], sentence: str, standing: str) -> None:
    instances = [instance(number, status=status) for number, status in enumerate(statuses)]
    small.add("api", status="running", stopped=True, assignments=instances)
    assert call("stop-service", "api").out == f"{sentence}\n"
    assert re.search(rf"^status +{standing}$", call("service", "api").out, re.MULTILINE)
    assert call("scale", "api", "3").out == f"{sentence}; start its 3 instances with: skyclaw restart api\n"
    assert json.loads(call("scale", "api", "1", "--json").out)["stopped"] is True


def test_a_revision_that_there_is_not_is_answered_with_where_they_are_shown(call: Call, small: SmallServices) -> None:
    small.add("api")
    small.at_change = refusal(409, "refused", "service api has no revision 99; there are 1")
    said = call("rollback", "api", "99")
    assert said.code == 6
    assert said.err.endswith("service api has no revision 99; there are 1; skyclaw service api shows the revisions\n")


def test_letters_that_were_typed_come_back_as_letters(call: Call, small: SmallServices) -> None:
    small.add("api")
    small.at_change = refusal(400, "invalid", r'env unlike "\xdcb\u20ac\U0001f600 \x1b \u202e \u200b \\xdc"')
    assert r'env unlike "Üb€😀 \x1b \u202e \u200b \\xdc"' in call("rollback", "api", "99").err


def test_what_is_neither_job_nor_service_is_called_so(call: Call, small: SmallServices) -> None:
    said = call("explain", "nope")
    assert (said.code, said.out) == (6, "")
    end = "there is neither a job nor a service nope; skyclaw jobs lists the jobs, skyclaw list-services the services\n"
    assert said.err.endswith(end)


REFUSALS = {
    "command not allowed: python3": "; the host's SKYCLAW_ALLOWED_COMMANDS does not list it",
    "cwd not allowed: /root": "; it is not below the host's SKYCLAW_WORK_ROOTS",
}


@pytest.mark.parametrize("error", REFUSALS)
def test_the_setting_that_decided_is_named_wherever_the_refusal_is(
    call: Call, small: SmallServices, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    monkeypatch.setattr(rollout, "PAUSE_S", 0.01)
    failed = [instance(0, status="failed", error=error, revision=2)]
    small.add("api", status="failed", assignments=failed)
    small.reasons, said = [f"the instance before failed: {error}"], f"{error}{REFUSALS[error]}"
    assert re.search(rf"^problem +{re.escape(said)}$", call("service", "api").out, re.MULTILINE)
    assert call("explain", "api").out == f"the instance before failed: {said}\n"
    small.looks = [{"goodRevision": 0, "status": "failed", "assignments": failed}]
    told = call("deploy-service", "--wait", "api", "python3").err.splitlines()[-1]
    assert told.endswith(f"yet: {said}; it is tried again; skyclaw explain api shows why, host by host")


@pytest.mark.parametrize("typed", ["api", SERVICE, "svc_aaaaaaaa-0"])
def test_explain_takes_a_service_too(call: Call, small: SmallServices, typed: str) -> None:
    small.add("api")
    assert call("explain", typed).out == "no host takes part\n"


def test_the_output_of_one_instance_stands_there_as_it_is(call: Call, small: SmallServices) -> None:
    small.add("api")
    small.output = [[wrote(0, "one\ntwo\nthree\n")], [wrote(0, "and so on without an end\n")]]
    assert call("service-logs", "api") == Said(0, "one\ntwo\nthree\n", "")
    assert call("service-logs", "api", "-n", "2").out == "two\nthree\n"
    assert call("service-logs", "api", "-n", "0").out == ""


def test_lines_of_several_instances_are_told_apart_and_never_mixed(call: Call, small: SmallServices) -> None:
    small.add("api")
    small.output = [[wrote(0, "a1\na2!"), wrote(1, "b1\nb2\n")]]
    assert call("service-logs", "api").out.splitlines() == [
        "ins_aaaaaaaa-0000  a1",
        "ins_aaaaaaaa-1000  b1",
        "ins_aaaaaaaa-1000  b2",
        "ins_aaaaaaaa-0000  a2!",
    ]
    for typed in (INSTANCES[1], "ins_aaaaaaaa-1000"):
        assert call("service-logs", "api", "--instance", typed, "-n", "1").out == "b2\n"


def test_what_ended_instances_wrote_is_shown_only_when_asked_for_or_when_none_lives(call: Call, small: SmallServices) -> None:
    small.add("api")
    small.output = [[wrote(0, "old\n", "ended"), wrote(1, "new\n")]]
    assert call("service-logs", "api").out == "new\n"
    assert call("service-logs", "api", "--all").out.splitlines() == ["ins_aaaaaaaa-0000  old", "ins_aaaaaaaa-1000  new"]
    assert call("service-logs", "api", "--instance", INSTANCES[0]).out == "old\n"
    small.output = [[wrote(0, "first\n", "ended"), wrote(1, "last\n", "ended")]]
    assert call("service-logs", "api").out == "last\n"


def test_as_json_too_only_the_last_lines_are_printed(call: Call, small: SmallServices) -> None:
    small.add("api")
    small.output = [[{**wrote(0, "one\nzwei ü\nthree\n"), "from": 7, "end": 25}, wrote(1, "")]]
    [first, second] = json.loads(call("service-logs", "api", "--json", "-n", "2").out)["instances"]
    assert (first["text"], first["from"], first["end"]) == ("zwei ü\nthree\n", 11, 25)
    assert second["text"] == ""
    assert json.loads(call("service-logs", "api", "--json").out)["instances"][0]["from"] == 7


@pytest.mark.parametrize("more", [[], ["--json"], ["-f"]])
def test_an_instance_that_there_is_not_is_told_with_those_that_there_are(call: Call, small: SmallServices, more: list[str]) -> None:
    small.add("api", assignments=[instance(1)])
    small.output = [[wrote(0, "old\n", "ended")]]
    assert call("service-logs", "api", "--instance", "zz", *more) == Said(
        2, "", f"[skyclaw] api has no instance whose id begins with zz; there are {INSTANCES[0]}, {INSTANCES[1]}\n"
    )
    assert call("service-logs", "api", "--instance", INSTANCES[1]) == Said(0, "", "")


def test_an_instance_of_a_service_that_has_none_is_told_so(call: Call, small: SmallServices) -> None:
    small.add("api")
    assert "begins with ins_; it has none" in call("service-logs", "api", "--instance", "ins_").err


def test_json_cannot_follow(call: Call, server: ScriptedServer) -> None:
    assert call("service-logs", "api", "--json", "-f").code == 2
    assert server.asked == []


def test_following_prints_what_comes_and_ends_with_130(
    environ: dict[str, str], server: ScriptedServer, small: SmallServices, tmp_path: Path
) -> None:
    small.add("api")
    small.output = [[wrote(0, "first\n")]]
    env = {**environ, "SKYCLAW_COORDINATOR_URL": server.url}
    command = [sys.executable, "-m", "skyclaw", "service-logs", "api", "-f"]
    with subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        small.output.append([wrote(0, "sec")])
        wait_until(lambda: server.asked[-1].path.endswith("after=2&limit=262144"), "the second piece is read")
        small.output.append([wrote(0, "ond\n")])
        assert process.stdout.readline() == b"second\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_what_a_service_writes_does_not_steer_a_terminal(
    environ: dict[str, str], small: SmallServices, server: ScriptedServer, tmp_path: Path
) -> None:
    small.add("api")
    small.output = [[wrote(0, "red \x1b[31m\x1b]0;title\x07\n")]]
    env = {**environ, "SKYCLAW_COORDINATOR_URL": server.url}
    assert on_a_terminal(80, ("service-logs", "api"), env, tmp_path) == ["red \\x1b[31m\\x1b]0;title\\x07"]
    command = [sys.executable, "-m", "skyclaw", "service-logs", "api"]
    plain = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, check=True)
    assert plain.stdout == b"red \x1b[31m\x1b]0;title\x07\n"
