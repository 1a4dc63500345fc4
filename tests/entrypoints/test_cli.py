"""The command line against a small coordinator over real HTTP: what it sends, what it prints, how it exits."""

import json
import re

import pytest

from skyclaw.entrypoints import cli, listings
from skyclaw.entrypoints.verbs import VERBS
from tests.entrypoints.conftest import Call, Said, Served
from tests.entrypoints.small_coordinator import refusal
from tests.support.scripted_server import Asked, Reply, serving

ID = "job_aaaaaaaa-0000-4000-8000-00000000000"


def one_line(said: Said) -> str:
    """The only line on stderr, with nothing on stdout."""
    assert said.out == ""
    assert re.fullmatch(r"\[skyclaw\] [^\n]+\n", said.err), said.err
    return said.err


def test_enqueue_shell_sends_the_words_untouched_and_prints_the_id_alone(call: Call, served: Served) -> None:
    said = call("enqueue-shell", "bash", "-lc", "echo hello", "1e5", "None", "[1,2]", "0x10", "--", "--help", "")
    body, key = served.small.posted[0]
    assert body == {
        "payload": {"kind": "shell", "command": "bash", "args": ["-lc", "echo hello", "1e5", "None", "[1,2]", "0x10", "--", "--help", ""]},
        "requirement": {"requiredCapabilities": ["shell"]},
    }
    assert said == Said(0, f"{next(iter(served.small.jobs))}\n", "")
    assert key is not None
    assert len(served.small.posted) == 1


@pytest.mark.parametrize(
    ("verb", "kind", "capability"), [("enqueue-openclaw", "openclaw-run", "openclaw"), ("enqueue-automaton", "automaton-run", "automaton")]
)
def test_the_other_kinds_send_their_arguments_as_a_list(call: Call, served: Served, verb: str, kind: str, capability: str) -> None:
    assert call(verb).code == call(verb, "run", "--local").code == 0
    assert [body["payload"] for body, _ in served.small.posted] == [{"kind": kind, "args": []}, {"kind": kind, "args": ["run", "--local"]}]
    assert served.small.posted[0][0]["requirement"] == {"requiredCapabilities": [capability]}


def test_every_option_of_an_enqueue_reaches_the_coordinator(call: Call, served: Served) -> None:
    said = call(
        "enqueue-shell", "--cap=gpu,big", "--cap", "gpu", "--priority=-5", "--label=a=1", "--label", "b=x=y", "--timeout=1.5s",
        "--max-attempts=3", "--not-before=2030-01-31T12:00:00+02:00", "--cwd=/srv", "--env=A=b", "--key=once", "--json", "--", "true",
    )  # fmt: skip
    assert served.small.posted == [
        (
            {
                "payload": {"kind": "shell", "command": "true", "args": [], "cwd": "/srv", "env": {"A": "b"}},
                "requirement": {"requiredCapabilities": ["shell", "gpu", "big"]},
                "priority": -5,
                "maxAttempts": 3,
                "timeoutMs": 1_500,
                "notBefore": "2030-01-31T10:00:00.000Z",
                "labels": {"a": "1", "b": "x=y"},
            },
            "once",
        )
    ]
    assert json.loads(said.out)["status"] == "queued"


@pytest.mark.parametrize(
    "option",
    [
        "--timeout=soon", "--timeout=0", "--timeout=25h", "--priority=1e3", "--priority=1001", "--max-attempts=0", "--max-attempts=101",
        "--cap=-x", "--cap=", "--label=x", "--label=a b=c", "--key=", "--not-before=tomorrow", "--not-before=2030-01-31T12:00:00",
    ],
)  # fmt: skip
def test_a_wrong_value_of_an_option_sends_nothing_and_exits_2(call: Call, served: Served, option: str) -> None:
    said = call("enqueue-shell", option, "true")
    assert said.code == 2
    assert option.partition("=")[0] in one_line(said)
    assert served.server.asked == []


def test_all_coordinators_down_exits_5_and_lists_each_with_its_reason(call: Call) -> None:
    said = call("enqueue-shell", "true", SKYCLAW_COORDINATOR_URLS="http://127.0.0.1:1,http://127.0.0.1:2")
    assert said.code == 5
    line = one_line(said)
    assert "http://127.0.0.1:1 (connection refused), http://127.0.0.1:2 (connection refused)" in line
    assert "skyclaw dev" in line


def test_a_busy_coordinator_is_followed_by_the_next_with_the_same_key(call: Call, served: Served) -> None:
    keys = []

    def busy(asked: Asked) -> Reply:
        if asked.path == "/health":
            return Reply(say={"ok": True, "log": "aaaaaaaa"})
        keys.append(asked.headers["x-idempotency-key"])
        return refusal(503, "unavailable", "not now", written=False)

    with serving(busy) as server:
        assert call("enqueue-shell", "true", SKYCLAW_COORDINATOR_URLS=f"{server.url},{served.url}").code == 0
    assert keys == [served.small.posted[0][1]]


def test_something_that_is_not_a_coordinator_exits_6(call: Call) -> None:
    with serving(lambda _: Reply(raw=b"<html>", content_type="text/html")) as server:
        said = call("status", SKYCLAW_COORDINATOR_URL=server.url)
    assert said.code == 6
    assert "not a Skyclaw coordinator" in one_line(said)


@pytest.mark.parametrize("token", ["", "a-wrong-token-of-some-length"])
def test_a_missing_or_wrong_token_exits_4_and_says_what_to_set(call: Call, served: Served, token: str) -> None:
    served.small.token = "the-right-token-of-some-length"  # noqa: S105
    said = call("hosts", SKYCLAW_TOKEN=token)
    assert said.code == 4
    assert "request failed (401): unauthorized; set SKYCLAW_TOKEN" in one_line(said)
    assert call("hosts", SKYCLAW_TOKEN=served.small.token).code == 0


def test_a_key_that_no_header_could_carry_exits_2(call: Call, served: Served) -> None:
    said = call("enqueue-shell", "--key=two words", "true")
    assert said.code == 2
    assert "an idempotency key has 1 to 255 printable ASCII characters" in one_line(said)
    assert served.small.posted == []


def test_a_wrong_setting_exits_3_and_names_it(call: Call) -> None:
    said = call("status", SKYCLAW_COORDINATOR_URL="nowhere")
    assert said.code == 3
    assert "SKYCLAW_COORDINATOR_URL=nowhere must be an address" in one_line(said)


@pytest.mark.parametrize(("words", "says"), [((), "requires a command"), (("--foo", "x"), "--foo")])
def test_a_wrong_line_exits_2(call: Call, words: tuple[str, ...], says: str) -> None:
    said = call("enqueue-shell", *words)
    assert said.code == 2
    assert says in one_line(said)


def test_an_unknown_command_exits_2_with_the_nearest_name(call: Call) -> None:
    said = call("enqueue-shel", "x")
    assert said.code == 2
    assert "unknown command: enqueue-shel; did you mean enqueue-shell?" in one_line(said)


@pytest.mark.parametrize("typed", ["1e5", "None", "12345678901234567890", "0x10", "[1,2]", "a/../b"])
def test_an_id_is_sent_as_it_was_typed_and_an_unknown_one_exits_6(call: Call, typed: str) -> None:
    said = call("status", typed)
    assert said.code == 6
    assert f"there is no job {typed}; skyclaw jobs lists the jobs" in one_line(said)


def test_the_beginning_of_an_id_is_enough_when_it_is_unique(call: Call, served: Served) -> None:
    served.small.add_job(ID + "1")
    served.small.add_job("job_bbbbbbbb-0000-4000-8000-000000000002")
    assert ID + "1" in call("status", "job_aaaa").out
    assert ID + "1" in call("status", "aaaa").out
    assert json.loads(call("status", "aaaa", "--json").out)["id"] == ID + "1"


def test_the_beginning_of_what_ids_do_not_have_in_common_is_enough(call: Call, served: Served) -> None:
    for tail in ("92ac-4222-8333-444444444444", "92ab-4222-8333-444444444444", "1111-4222-8333-444444444444"):
        served.small.add_job(f"job_aaaaaaaa-{tail}")
    assert "job_aaaaaaaa-92ac" in call("status", "92ac").out
    assert "job_aaaaaaaa-92ab" in call("status", "92ab-4222").out
    assert call("status", "111").code == 6
    assert call("status", "2222").code == 6


def test_an_ambiguous_beginning_exits_2_and_lists_the_candidates(call: Call, served: Served) -> None:
    for number in range(7):
        served.small.add_job(ID + str(number))
    said = call("cancel", "job_aaaa")
    assert said.code == 2
    assert f"job_aaaa is not unique; type more of one of these: {ID[13:]}6, " in one_line(said)
    assert "and 2 more" in said.err


def test_status_without_an_id_shows_everything_at_a_glance(call: Call, served: Served) -> None:
    served.small.add_host("host_1", "kitchen")
    served.small.add_host("host_2", "cellar", online=False)
    served.small.add_job(ID + "1")
    served.small.add_job(ID + "2", "leased")
    served.small.add_job(ID + "3", "completed")
    said = call("status")
    assert said.code == 0
    assert f"small at {served.url}, version 0.1.0" in said.out
    assert "1 running, 1 waiting; of the latest 100: 1 completed, 0 failed, 0 cancelled" in said.out
    assert "1 online of 2" in said.out
    assert re.search(r"host_2 +cellar +offline +1/2", said.out)
    assert json.loads(call("status", "--json").out)["jobs"]["latest"]["completed"] == 1


def test_status_shows_services_when_there_are_any(call: Call, served: Served) -> None:
    assert "SERVICE" not in call("status").out
    instance = {"status": "running", "hostId": "host_1"}
    service = {
        "name": "api",
        "status": "running",
        "replicas": 2,
        "revision": 7,
        "assignments": [instance],
        "rollout": {"state": "succeeded"},
    }
    served.small.services.append(service)
    assert re.search(r"SERVICE +STATUS +RUNNING +REVISION\napi +running +1/2 +7\n", call("status").out)
    assert json.loads(call("status", "--json").out)["services"] == [service]


def test_jobs_are_listed_newest_first_and_aligned(call: Call, served: Served) -> None:
    served.small.add_host("host_1", "kitchen")
    served.small.add_job(ID + "1", "completed", assignedHostId="host_1", result={"exitCode": 0})
    served.small.add_job(ID + "2", payload={"kind": "shell", "command": "bash", "args": ["-lc", "echo hi\x1b[2J"]})
    lines = call("jobs").out.splitlines()
    assert [line.split()[0] for line in lines] == ["JOB", ID + "2", ID + "1"]
    assert lines[1].endswith("bash -lc 'echo hi\\x1b[2J'")
    assert re.search(r"completed +\w+ +0 +kitchen +true", lines[2])
    assert lines[0].index("STATUS") == lines[1].index("queued") == lines[2].index("completed")
    assert "\t" not in "".join(lines)


def test_jobs_can_be_chosen_by_status_label_and_number(call: Call, served: Served) -> None:
    for number in range(5):
        served.small.add_job(ID + str(number))
    assert len(json.loads(call("jobs", "--limit=3", "--json").out)["jobs"]) == 3
    assert len(json.loads(call("jobs", "--all", "--json").out)["jobs"]) == 5
    assert json.loads(call("jobs", "--status=failed", "--json").out) == {"jobs": []}
    call("jobs", "--label=a=1", "--label=b=2")
    assert any("label=a%3D1&label=b%3D2" in asked.path for asked in served.server.asked)
    assert call("jobs", "--status=done").code == call("jobs", "--limit=0").code == 2


def test_hosts_are_found_by_name_and_change_their_mode(call: Call, served: Served) -> None:
    served.small.add_host("host_1", "kitchen")
    served.small.add_host("host_2", "kitten")
    assert call("drain", "kitchen").out == "kitchen is draining\n"
    assert call("resume", "host_1").out == "kitchen is active\n"
    assert call("pause", "kitche", "--json").code == 0
    assert "paused" in call("hosts").out
    assert call("pause", "kit").code == 2
    assert call("resume", "kitc\N{HORIZONTAL ELLIPSIS}").out == "kitchen is active\n"
    assert "there is no host cellar" in one_line(call("pause", "cellar"))


def test_lists_of_nothing_say_so_beside_an_empty_answer(call: Call) -> None:
    assert call("jobs") == Said(0, "", "[skyclaw] no jobs yet\n")
    assert call("jobs", "--status=failed") == Said(0, "", "[skyclaw] no such jobs\n")
    assert call("hosts") == Said(0, "", "[skyclaw] no hosts yet; start one with: skyclaw host\n")
    for verb in ("jobs", "hosts"):
        said = call(verb, "--json")
        assert (json.loads(said.out), said.err) == ({verb: []}, "")


def test_the_overview_counts_in_numbers(call: Call, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "PAGE", 2)
    for number in range(3):
        served.small.add_job(ID + str(number))
    counted = json.loads(call("status", "--json").out)["jobs"]
    assert (counted["queued"], counted["leased"], counted["more"]) == (2, 0, ["queued"])
    assert "0 running, 2+ waiting" in call("status").out


@pytest.mark.parametrize(
    ("job", "says"),
    [
        ({"status": "cancelled"}, "cancelled; no output was kept"),
        (
            {"status": "failed", "error": "its lease was lost 3 times", "reason": "exhausted"},
            "failed (its lease was lost 3 times); no output was kept",
        ),
    ],
)
def test_logs_say_when_no_output_was_kept(call: Call, served: Served, job: dict[str, str], says: str) -> None:
    served.small.add_job(ID + "1", **job)
    assert f"[skyclaw] {says}\n" in call("logs", ID + "1").err


def test_output_that_was_cut_is_told_by_logs_and_status(call: Call, served: Served) -> None:
    served.small.add_job(ID + "1")
    served.small.finish(ID + "1", stdout="x" * 100, stderr="e", truncated=True, stdoutBytes=5_000, stderrBytes=1)
    says = "output was cut to 100 of 5000 bytes; SKYCLAW_MAX_OUTPUT_BYTES on the host"
    assert call("logs", ID + "1").err == f"e[skyclaw] {says}\n"
    assert re.search(rf"^output +{says}$", call("status", ID + "1").out, re.MULTILINE)
    answer = json.loads(call("logs", ID + "1", "--json").out)
    assert (answer["truncated"], answer["stdoutBytes"], answer["stderrBytes"]) == (True, 5_000, 1)


def test_logs_go_where_the_job_wrote_them(call: Call, served: Served) -> None:
    served.small.add_job(ID + "1")
    served.small.finish(ID + "1", stdout="out\x1b[1m\n", stderr="err\n")
    assert call("logs", ID + "1") == Said(0, "out\x1b[1m\n", "err\n")
    assert call("logs", ID + "1", "--stream=stderr") == Said(0, "", "err\n")
    assert call("logs", ID + "1", "--stream=both").code == 2


def test_explain_says_why_a_job_waits(call: Call, served: Served) -> None:
    served.small.add_job(ID + "1")
    assert call("explain", ID + "1").out == "no host has gpu\n"


@pytest.mark.parametrize("status", ["queued", "completed", "failed", "cancelled"])
def test_explain_says_nothing_of_hosts_that_could_run_what_has_finished(call: Call, served: Served, status: str) -> None:
    served.small.add_job(ID + "1", status)
    answer = {"jobId": ID + "1", "status": status, "reasons": ["because"]}
    fit = {"id": "host_1", "name": "kitchen", "can": True, "reason": "could run it"}

    def script(asked: Asked) -> Reply:
        return Reply(say={**answer, "hosts": [fit]}) if asked.path.endswith("/explain") else served.small.script(asked)

    with serving(script) as server:
        said = call("explain", ID + "1", SKYCLAW_COORDINATOR_URL=server.url)
    assert said.out.startswith("because\n")
    assert ("could run it" in said.out) == (status == "queued")


def test_status_names_the_coordinator_that_answers(call: Call, served: Served) -> None:
    said = call("status", SKYCLAW_COORDINATOR_URLS=f"http://127.0.0.1:1,{served.url}")
    assert f"small at {served.url}, version" in said.out


def test_the_next_coordinator_may_know_the_token(call: Call, served: Served) -> None:
    with serving(lambda _: refusal(401, "unauthorized", "unauthorized")) as server:
        assert call("hosts", SKYCLAW_COORDINATOR_URLS=f"{server.url},{served.url}").code == 0
        assert call("hosts", SKYCLAW_COORDINATOR_URLS=f"{server.url},http://127.0.0.1:1").code == 4


def test_cancel_and_retry_change_a_job_and_refusals_say_what_to_do(call: Call, served: Served) -> None:
    served.small.add_job(ID + "1")
    assert call("cancel", ID + "1").out == f"{ID}1 is cancelled\n"
    assert "(409): the job is cancelled; skyclaw status shows it" in one_line(call("cancel", ID + "1"))
    assert call("retry", ID + "1").out == f"{ID}1 is queued\n"
    assert call("retry", ID + "1").code == 6
    assert all(asked.headers["x-idempotency-key"] for asked in served.server.asked if asked.method == "POST")


def test_what_a_validation_refuses_is_shown_field_by_field(call: Call) -> None:
    wrong = {"priority": ["must be a whole number"], "labels": ["must be\ntexts"], "notBefore": ["must be a time"]}
    reply = refusal(400, "invalid", "priority must be a whole number", **wrong)
    with serving(lambda _: reply) as server:
        said = call("enqueue-shell", "x", SKYCLAW_COORDINATOR_URL=server.url)
    assert said.code == 6
    assert "priority must be a whole number (also: labels must be\\ntexts; notBefore must be a time)\n" in one_line(said)


def test_a_coordinator_that_answers_nonsense_is_an_unexpected_error_of_one_line(call: Call) -> None:
    with serving(lambda _: Reply(say={})) as server:
        said = call("enqueue-shell", "x", SKYCLAW_COORDINATOR_URL=server.url)
        assert said.code == 1
        assert "unexpected KeyError" in one_line(said)
        assert "Traceback" in call("enqueue-shell", "x", SKYCLAW_COORDINATOR_URL=server.url, SKYCLAW_DEBUG="1").err


def test_an_unknown_setting_is_a_warning_beside_the_answer(call: Call) -> None:
    said = call("enqueue-shell", "true", SKYCLAW_TOKNE="x")
    assert said.code == 0
    assert said.err == "[skyclaw] warning: unknown setting SKYCLAW_TOKNE; did you mean SKYCLAW_TOKEN?\n"


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_the_help_lists_every_command_and_setting(call: Call, words: tuple[str, ...]) -> None:
    said = call(*words)
    assert said.code == 0
    assert said.err == ""
    assert all(f"  {verb}" in said.out for verb in VERBS)
    assert "SKYCLAW_DB_PATH=.skyclaw/coordinator.db" in said.out
    assert "92ac for job_9c8d7e6f-92ac-..." in said.out


@pytest.mark.parametrize("verb", VERBS)
def test_each_command_has_help_of_its_own(call: Call, served: Served, verb: str) -> None:
    said = call(verb, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: skyclaw {verb} [options]")
    assert all(option.typed in said.out for option in VERBS[verb].options)
    assert served.server.asked == []


@pytest.mark.parametrize("verb", VERBS)
def test_each_command_has_its_function_and_takes_json(verb: str) -> None:
    assert "json" in [option.name for option in VERBS[verb].options]
    assert callable(VERBS[verb].load())


def test_a_ctrl_c_anywhere_else_is_one_line_and_130(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    said = call("status")
    assert (said.code, said.err) == (130, "[skyclaw] interrupted\n")


def test_the_version_is_shown(call: Call) -> None:
    assert re.fullmatch(r"skyclaw \d+\.\d+\.\d+\n", call("--version").out)
