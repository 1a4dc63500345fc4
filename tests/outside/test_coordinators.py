"""The client of the coordinators against real servers on loopback: one that refuses, hangs, talks HTML, is busy, redirects, drips."""

import contextlib
import io
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skyclaw.errors import Invalid, NotACoordinator, ServerRefused, Unreachable
from skyclaw.outside.coordinators import Coordinators
from tests.support.scripted_server import Asked, Hangup, Reply, serving


def says(value: str) -> Callable[[Asked], Reply]:
    return lambda _: Reply(say={"from": value})


def busy(_: Asked) -> Reply:
    say = {"error": "no owner is elected", "code": "unavailable", "details": {"written": False}, "requestId": "r"}
    return Reply(503, say, {"retry-after": "1"})


def html(_: Asked) -> Reply:
    return Reply(raw=b"<html>hello</html>", content_type="text/html")


@pytest.fixture
def dead() -> Iterator[str]:
    """A port that refuses: bound by us, so nobody else gets it, and never listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def mute() -> Iterator[str]:
    """Accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def dripping(head: bytes) -> Iterator[str]:
    """Sends `head`, then a byte each 50 ms for as long as the client listens."""
    over = threading.Event()

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError), listening.accept()[0] as client:
            client.recv(65_536)
            client.sendall(head)
            while not over.wait(0.05):
                client.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        over.set()
    thread.join(5)


def test_the_answer_is_the_json_object() -> None:
    with serving(says("a")) as a:
        assert Coordinators([a.url + "/"]).get("/v1/jobs", {"status": "queued", "after": None, "limit": 5}) == {"from": "a"}
        assert (a.asked[0].method, a.asked[0].path) == ("GET", "/v1/jobs?status=queued&limit=5")


def test_a_post_carries_body_key_and_token() -> None:
    with serving(says("a")) as a:
        Coordinators([a.url], "s3cret").post("/v1/jobs/x/cancel", {"payload": {"kind": "shell"}}, key="k-1")
        sent = a.asked[0]
        assert sent.json == {"payload": {"kind": "shell"}}
        assert sent.headers["content-type"] == "application/json"
        assert (sent.headers["x-idempotency-key"], sent.headers["x-skyclaw-token"]) == ("k-1", "s3cret")


def test_of_two_live_tokens_the_first_is_shown_and_without_token_no_header_is_sent() -> None:
    with serving(says("a")) as a:
        Coordinators([a.url], "new, old").get("/")
        Coordinators([a.url], "zäh").get("/")
        Coordinators([a.url]).get("/")
        assert [asked.headers.get("x-skyclaw-token") for asked in a.asked] == ["new", "z\u00c3\u00a4h", None]


def test_neither_netrc_nor_proxies_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dead: str) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", dead)
    with serving(says("a")) as a:
        Coordinators([a.url]).get("/")
        assert "authorization" not in a.asked[0].headers


def test_a_dead_coordinator_is_passed_over_with_the_same_key_and_body_and_the_good_one_is_remembered(dead: str) -> None:
    with serving(busy) as a, serving(says("b")) as b:
        them = Coordinators([dead, a.url, b.url])
        assert them.post("/v1/jobs/x/cancel", {"x": 1}, key="k") == {"from": "b"}
        assert [(s.headers["x-idempotency-key"], s.body) for s in a.asked + b.asked] == [("k", b'{"x":1}')] * 2
        them.get("/v1/state")
        assert (len(a.asked), len(b.asked)) == (1, 2)


def test_a_refusal_is_final_and_keeps_the_coordinators_words() -> None:
    def unknown(_: Asked) -> Reply:
        return Reply(404, {"error": "there is no job x", "code": "unknown_job", "requestId": "r"})

    with serving(unknown) as a, serving(says("b")) as b, pytest.raises(ServerRefused) as caught:
        Coordinators([a.url, b.url]).get("/v1/jobs/x")
    assert (caught.value.status, caught.value.code, str(caught.value)) == (404, "unknown_job", "there is no job x")
    assert b.asked == []


def unauthorized(_: Asked) -> Reply:
    return Reply(401, {"error": "unauthorized", "code": "unauthorized", "requestId": "r"})


def test_one_that_does_not_know_the_token_is_passed_over_and_not_taken_for_the_good_one(dead: str) -> None:
    with serving(unauthorized) as a, serving(says("b")) as b:
        them = Coordinators([a.url, b.url])
        assert [them.get("/v1/state"), them.get("/v1/state")] == [{"from": "b"}] * 2
        assert (len(a.asked), len(b.asked), them.answering) == (1, 2, b.url)
    with serving(unauthorized) as a, pytest.raises(ServerRefused) as caught:
        Coordinators([a.url, dead]).get("/v1/state")
    assert caught.value.status == 401
    with serving(unauthorized) as a, serving(busy) as b, pytest.raises(ServerRefused) as caught:
        Coordinators([a.url, b.url]).get("/v1/state")
    assert caught.value.status == 503


def test_a_refusal_in_the_older_shape_is_final_too() -> None:
    with serving(lambda _: Reply(404, {"error": "job not found"})) as a, pytest.raises(ServerRefused, match="job not found") as caught:
        Coordinators([a.url]).get("/v1/jobs/x")
    assert caught.value.code == "http_404"


def test_a_real_refusal_is_not_masked_by_the_silence_of_the_next(dead: str) -> None:
    with serving(busy) as a, pytest.raises(ServerRefused) as caught:
        Coordinators([a.url, dead]).post("/v1/jobs/x/cancel", {})
    assert (caught.value.status, caught.value.error, caught.value.retry_after) == (503, "no owner is elected", 1.0)
    assert caught.value.details == {"written": False}


def test_what_an_unwell_coordinator_says_of_itself_is_kept() -> None:
    with serving(lambda _: Reply(503, {"ok": False, "nodeId": "n"})) as a, pytest.raises(ServerRefused) as caught:
        Coordinators([a.url]).get("/health")
    assert caught.value.details == {"ok": False, "nodeId": "n"}


def test_503_everywhere_is_tried_again_after_retry_after_within_the_patience() -> None:
    pauses: list[float] = []
    replies = [busy, busy, says("a")]
    with serving(lambda asked: replies.pop(0)(asked)) as a:
        them = Coordinators([a.url], patience_s=60, sleep=pauses.append)
        assert them.post("/v1/jobs/x/cancel", {}, key="same") == {"from": "a"}
        assert [asked.headers["x-idempotency-key"] for asked in a.asked] == ["same"] * 3
    assert pauses == [1.0, 1.0]


@pytest.mark.parametrize(("key", "patience_s"), [(None, None), ("k", 0.0)])
def test_without_patience_there_is_one_round_only(key: str | None, patience_s: float | None) -> None:
    with serving(busy) as a, pytest.raises(ServerRefused):
        Coordinators([a.url], patience_s=patience_s).post("/v1/hosts/h1/claim", {}, key=key)
    assert len(a.asked) == 1


def test_a_request_with_a_key_rides_out_a_takeover() -> None:
    pauses: list[float] = []
    replies = [busy, busy, says("a")]
    with serving(lambda asked: replies.pop(0)(asked)) as a:
        assert Coordinators([a.url], sleep=pauses.append).post("/v1/jobs/x/cancel", {}, key="k") == {"from": "a"}
    assert pauses == [1.0, 1.0]


def unsure(_: Asked) -> Reply:
    return Reply(
        503, {"error": "the owner did not answer", "code": "owner_unknown", "details": {"written": "unknown"}}, {"retry-after": "1"}
    )


def falls_silent(first: Callable[[Asked], Reply], rounds: list[str]) -> Callable[[Asked], Reply]:
    """Answers once, and then only hangs up."""

    def answer(asked: Asked) -> Reply:
        rounds.append(asked.path)
        if len(rounds) == 1:
            return first(asked)
        raise Hangup

    return answer


def test_a_coordinator_that_falls_silent_in_a_later_round_does_not_hide_what_was_said_in_the_first() -> None:
    rounds: list[str] = []
    with serving(falls_silent(busy, rounds)) as a, pytest.raises(ServerRefused, match="no owner is elected"):
        Coordinators([a.url], patience_s=1.5, sleep=lambda _: None).post("/v1/jobs/x/cancel", {}, key="k")
    assert len(rounds) > 1


@pytest.mark.parametrize("turn", [1, -1])
def test_that_something_may_have_been_written_is_what_is_said_in_the_end(turn: int) -> None:
    with serving(busy) as a, serving(unsure) as b, pytest.raises(ServerRefused) as caught:
        Coordinators([a.url, b.url][::turn], patience_s=0).post("/v1/jobs/x/cancel", {})
    assert caught.value.details == {"written": "unknown"}
    replies = [unsure, busy]
    with serving(lambda asked: (replies.pop(0) if len(replies) > 1 else busy)(asked)) as a, pytest.raises(ServerRefused) as caught:
        Coordinators([a.url], patience_s=1.5, sleep=lambda _: None).post("/v1/jobs/x/cancel", {})
    assert caught.value.details == {"written": "unknown"}


def test_what_may_be_written_comes_with_the_key_that_makes_a_repetition_harmless() -> None:
    with serving(with_log("aaaaaaaa", unsure)) as a, pytest.raises(ServerRefused) as caught:
        Coordinators([a.url], patience_s=0).post("/v1/jobs", {})
    key = caught.value.details["key"]
    assert [asked.headers.get("x-idempotency-key") for asked in a.asked] == [None, key]
    with serving(with_log("bbbbbbbb", says("b"))) as b:
        Coordinators([b.url]).post("/v1/jobs", {}, key=key)
    assert [(asked.path, asked.headers["x-skyclaw-home"]) for asked in b.asked] == [("/v1/jobs", "aaaaaaaa")]
    with serving(busy) as a, pytest.raises(ServerRefused) as caught:
        Coordinators([a.url], patience_s=0).post("/v1/jobs/x/cancel", {}, key="k")
    assert "key" not in caught.value.details


@pytest.mark.parametrize("first", [unsure, busy])
def test_a_question_that_is_refused_has_nothing_to_do_with_writing(first: Callable[[Asked], Reply]) -> None:
    with serving(first) as a, pytest.raises(ServerRefused) as caught:
        Coordinators([a.url]).get("/v1/jobs/x")
    assert caught.value.details == {}
    assert caught.value.retry_after == 1.0
    assert caught.value.error == ("the coordinator could not answer now" if first is unsure else "no owner is elected")


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def says_no(code: str, *sentences: str) -> Callable[[Asked], Reply]:
    """Refuses for now, with the one sentence after the other and then the last one again and again."""
    left = list(sentences)
    return lambda _: Reply(503, {"error": left.pop(0) if len(left) > 1 else left[0], "code": code}, {"retry-after": "1"})


def test_each_reason_for_waiting_is_told_once_when_it_takes_longer() -> None:
    clock, told = Clock(), list[str]()
    replies = [*[says_no("lost_contact", "one is away")] * 3, *[says_no("unavailable", "nobody decides")] * 3, says("a")]
    with serving(lambda asked: replies.pop(0)(asked)) as a:
        them = Coordinators([a.url], sleep=clock.sleep, clock=clock, tell=told.append)
        assert them.post("/v1/jobs/x/cancel", {}, key="k") == {"from": "a"}
    assert told == ["one is away", "nobody decides"]
    replies[:] = [says_no("lost_contact", "one is away"), says("a")]
    with serving(lambda asked: replies.pop(0)(asked)) as a:
        Coordinators([a.url], sleep=clock.sleep, clock=clock, tell=told.append).post("/v1/jobs/x/cancel", {}, key="k")
    assert len(told) == 2


@pytest.mark.parametrize(("code", "tried_s"), [("unavailable", 29), ("too_few_copies", 5), ("storage_readonly", 5)])
def test_what_lasts_is_not_waited_for_and_it_is_said_how_long_was_tried(code: str, tried_s: int) -> None:
    clock = Clock()
    with serving(says_no(code, "no")) as a, pytest.raises(ServerRefused) as caught:
        Coordinators([a.url], sleep=clock.sleep, clock=clock).post("/v1/jobs/x/cancel", {}, key="k")
    assert caught.value.details == {"triedForS": tried_s}
    assert len(a.asked) == tried_s + 1


def test_what_lasts_is_given_its_time_from_when_it_began() -> None:
    clock = Clock()
    passing, lasting = says_no("unavailable", "no"), says_no("too_few_copies", "no")
    replies = [*[lasting] * 4, *[passing] * 10, *[lasting] * 4, says("a")]
    with serving(lambda asked: replies.pop(0)(asked)) as a:
        assert Coordinators([a.url], sleep=clock.sleep, clock=clock).post("/v1/jobs/x/cancel", {}, key="k") == {"from": "a"}


def with_log(log: object, then: Callable[[Asked], Reply]) -> Callable[[Asked], Reply]:
    """Says which log is its own; to all else answers with `then`."""
    return lambda asked: Reply(say={"ok": True, "log": log}) if asked.path == "/health" else then(asked)


NEW_JOBS = ["/v1/jobs", "/v1/jobs/batch"]


@pytest.mark.parametrize("path", NEW_JOBS)
def test_new_jobs_go_to_the_log_of_the_first_coordinator_that_answers_with_one_key_whoever_takes_them(path: str, dead: str) -> None:
    replies: list[Callable[[Asked], Reply]] = [busy, busy]
    with serving(with_log("aaaaaaaa", busy)) as a, serving(with_log("bbbbbbbb", lambda x: (replies or [says("b")]).pop()(x))) as b:
        them = Coordinators([dead, a.url, b.url], sleep=lambda _: None)
        assert them.post(path, {}) == {"from": "b"}
        assert them.post(path, {}, key="mine") == {"from": "b"}
    first, second = ([s for s in server.asked if s.path == path] for server in (a, b))
    assert (len(first), len(second)) == (3, 4)
    assert {s.headers["x-skyclaw-home"] for s in first + second} == {"aaaaaaaa"}
    keys = {s.headers["x-idempotency-key"] for s in first + second}
    assert len(keys) == 2
    assert second[-1].headers["x-idempotency-key"] == "mine"
    assert [s.path for s in a.asked + b.asked].count("/health") == 1


def not_ready(log: str, then: Callable[[Asked], Reply]) -> Callable[[Asked], Reply]:
    """Says that it is not ready to serve."""
    return lambda asked: Reply(say={"ok": True, "log": log, "ready": False}) if asked.path == "/health" else then(asked)


def test_new_jobs_go_to_a_coordinator_that_is_ready_if_there_is_one() -> None:
    with serving(not_ready("aaaaaaaa", says("a"))) as a, serving(with_log("bbbbbbbb", says("b"))) as b:
        assert Coordinators([a.url, b.url]).post("/v1/jobs", {}) == {"from": "b"}
        assert b.asked[-1].headers["x-skyclaw-home"] == "bbbbbbbb"
        assert Coordinators([a.url]).post("/v1/jobs", {}) == {"from": "a"}
        assert a.asked[-1].headers["x-skyclaw-home"] == "aaaaaaaa"


def test_a_home_that_nobody_decides_for_is_given_up_for_the_next_new_job_but_not_for_the_same_one() -> None:
    homes = ["bbbbbbbb", "aaaaaaaa"]
    replies: list[Callable[[Asked], Reply]] = [says("a"), says("a"), busy]
    with serving(lambda asked: with_log(homes[-1], lambda x: replies.pop()(x))(asked)) as a:
        them = Coordinators([a.url], patience_s=0)
        with pytest.raises(ServerRefused):
            them.post("/v1/jobs", {}, key="mine")
        homes.pop()
        assert them.post("/v1/jobs", {}, key="another") == {"from": "a"}
        assert them.post("/v1/jobs", {}, key="mine") == {"from": "a"}
    homes_asked = [(s.headers["x-idempotency-key"], s.headers["x-skyclaw-home"]) for s in a.asked if s.path == "/v1/jobs"]
    assert homes_asked == [("mine", "aaaaaaaa"), ("another", "bbbbbbbb"), ("mine", "aaaaaaaa")]


@pytest.mark.parametrize("log", [None, 5, "", "AAAAAAAA", "aaaaaaaa\n", "x: y"])
def test_of_a_coordinator_without_a_log_nothing_is_sent_as_home(log: object) -> None:
    with serving(with_log(log, says("a"))) as a:
        assert Coordinators([a.url]).post("/v1/jobs", {}) == {"from": "a"}
        assert "x-skyclaw-home" not in a.asked[-1].headers
    with serving(with_log(log, says("a"))) as a, serving(with_log("bbbbbbbb", says("b"))) as b:
        Coordinators([a.url, b.url]).post("/v1/jobs", {})
        assert b.asked[-1].headers["x-skyclaw-home"] == "bbbbbbbb"


def test_a_coordinator_that_says_nothing_of_its_health_is_asked_for_the_job_all_the_same() -> None:
    def unauthorized(_: Asked) -> Reply:
        return Reply(401, {"error": "unauthorized"})

    with serving(unauthorized) as a, pytest.raises(ServerRefused, match="unauthorized"):
        Coordinators([a.url]).post("/v1/jobs", {})
    assert [asked.path for asked in a.asked] == ["/health", "/v1/jobs"]


def test_nothing_but_new_jobs_has_a_home() -> None:
    with serving(with_log("aaaaaaaa", says("a"))) as a:
        Coordinators([a.url]).post("/v1/jobs/x/cancel", {}, key="k")
        assert ["x-skyclaw-home" in asked.headers for asked in a.asked] == [False]


def test_no_answer_lists_each_address_with_its_reason(dead: str, mute: str) -> None:
    nameless = "http://coordinator.invalid:1"
    began = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        Coordinators([dead, mute, nameless], timeout_s=2).get("/v1/state")
    assert caught.value.details == {dead: "connection refused", mute: "timed out", nameless: "name not known"}
    assert f"{dead} (connection refused)" in str(caught.value)
    assert time.monotonic() - began < 8


def test_a_hanging_coordinator_leaves_time_for_the_next(mute: str) -> None:
    with serving(says("b")) as b:
        assert Coordinators([mute, b.url], timeout_s=1).get("/") == {"from": "b"}


def test_html_is_not_a_coordinator_and_the_next_is_asked() -> None:
    with serving(html) as a:
        with pytest.raises(NotACoordinator, match=f"{a.url} is not a Skyclaw coordinator"):
            Coordinators([a.url]).get("/")
        with serving(says("b")) as b:
            assert Coordinators([a.url, b.url]).get("/") == {"from": "b"}


@pytest.mark.parametrize(
    "reply",
    [
        Reply(raw=b"[]"),
        Reply(raw=b"{"),
        Reply(raw=b""),
        Reply(raw=b"{}", content_type="text/plain"),
        Reply(404, raw=b"<h1>no</h1>", content_type="text/html"),
        Reply(404, {"detail": "Not Found"}),
    ],
    ids=["array", "torn", "empty", "not called json", "html 404", "another program's 404"],
)
def test_other_programs_answers_are_not_a_coordinators(reply: Reply) -> None:
    with serving(lambda _: reply) as a, pytest.raises(NotACoordinator):
        Coordinators([a.url]).get("/")


def test_a_proxys_502_counts_as_no_answer() -> None:
    with serving(lambda _: Reply(502, raw=b"bad gateway", content_type="text/html")) as a, pytest.raises(Unreachable, match="answered 502"):
        Coordinators([a.url]).get("/")


def test_a_redirect_is_not_followed() -> None:
    with serving(says("target")) as target, serving(lambda _: Reply(302, headers={"location": target.url})) as a:
        with pytest.raises(NotACoordinator):
            Coordinators([a.url]).get("/")
        assert target.asked == []


def test_a_dripping_answer_ends_with_its_time() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n"
    began = time.monotonic()
    with dripping(head) as url, pytest.raises(Unreachable, match="timed out"):
        Coordinators([url], timeout_s=0.5).get("/")
    assert time.monotonic() - began < 5


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    with serving(lambda _: Reply(raw=b"{}", headers={"content-length": "500", "connection": "close"})) as a, pytest.raises(Unreachable):
        Coordinators([a.url], timeout_s=2).get("/")


def test_an_answer_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyclaw.outside.http_answers.MAX_ANSWER_BYTES", 1000)
    with serving(lambda _: Reply(say={"text": "x" * 2000})) as a, pytest.raises(Unreachable, match="answer too large"):
        Coordinators([a.url]).get("/")


def test_a_compressed_answer_is_not_unpacked() -> None:
    with serving(lambda _: Reply(raw=b"\x1f\x8b bomb", headers={"content-encoding": "gzip"})) as a, pytest.raises(NotACoordinator):
        Coordinators([a.url]).get("/")


def test_connections_are_kept_and_a_thread_has_its_own() -> None:
    with serving(says("a")) as a:
        them = Coordinators([a.url])
        for _ in range(3):
            them.get("/")
        other = threading.Thread(target=them.get, args=("/",))
        other.start()
        other.join(10)
        assert [asked.connection for asked in a.asked] == [1, 1, 1, 2]


def test_a_kept_connection_that_was_closed_meanwhile_is_opened_again() -> None:
    closed: list[int] = []

    def once(asked: Asked) -> Reply:
        if asked.path == "/second" and not closed:
            closed.append(1)
            raise Hangup
        return Reply(say={"path": asked.path})

    with serving(once) as a:
        them = Coordinators([a.url])
        them.get("/first")
        assert them.get("/second") == {"path": "/second"}


def test_a_coordinator_that_only_hangs_up_is_asked_twice_and_then_passed_over() -> None:
    def hangup(_: Asked) -> Reply:
        raise Hangup

    with serving(hangup) as a, pytest.raises(Unreachable, match="connection closed"):
        Coordinators([a.url]).get("/")
    assert len(a.asked) == 2


@pytest.mark.parametrize("key", ["", "with blank", "ä", "x" * 256, "a\nb"])
def test_a_key_that_no_coordinator_takes_is_not_sent(key: str, dead: str) -> None:
    with pytest.raises(Invalid, match="idempotency key"):
        Coordinators([dead]).post("/v1/jobs", {}, key=key)


def test_text_that_is_no_utf8_is_refused_before_it_is_sent(dead: str) -> None:
    with pytest.raises(Invalid, match="cannot be written as JSON"):
        Coordinators([dead]).post("/v1/jobs", {"command": "\udcff"})


@pytest.mark.parametrize("url", ["http://[::1", "http://", "no-scheme:1", "http://a b:1"])
def test_an_address_that_is_none_is_an_unreachable_one(url: str) -> None:
    with pytest.raises(Unreachable):
        Coordinators([url]).get("/")


def test_a_secret_never_stands_in_an_error(dead: str) -> None:
    with pytest.raises(Unreachable) as caught:
        Coordinators([dead], "sec\nret").get("/")
    assert "sec" not in str(caught.value)


def test_the_server_half_is_not_imported() -> None:
    program = "import sys, skyclaw.outside.coordinators; print(sorted({'falcon', 'sqlmodel', 'marshmallow', 'pykka'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_an_upload_is_opened_again_for_each_coordinator_and_arrives_whole(dead: str, tmp_path: Path) -> None:
    (file := tmp_path / "file").write_bytes(bytes(range(256)) * 1_000)
    opened: list[io.FileIO] = []

    def content() -> io.FileIO:
        opened.append(io.FileIO(file))
        return opened[-1]

    with serving(busy) as first, serving(says("second")) as second:
        answer = Coordinators([dead, first.url, second.url]).upload("/v1/thing", content, "application/gzip", 30.0)
    (asked,) = second.asked
    assert answer == {"from": "second"}
    assert (asked.method, asked.body, asked.headers["content-type"]) == ("PUT", file.read_bytes(), "application/gzip")
    assert len(opened) == 3
    assert all(one.closed for one in opened)


@pytest.mark.parametrize(("status", "there"), [(200, True), (404, False)])
def test_whether_something_is_there_is_asked_without_its_body(status: int, there: bool) -> None:
    with serving(lambda _: Reply(status, raw=b"", content_type="application/gzip")) as server:
        assert Coordinators([server.url]).has("/v1/thing") is there
    assert [asked.method for asked in server.asked] == ["HEAD"]


@pytest.mark.parametrize(("status", "error"), [(500, ServerRefused), (401, ServerRefused), (302, NotACoordinator)])
def test_who_cannot_say_whether_it_is_there_does_not_say_no(status: int, error: type[Exception]) -> None:
    with serving(lambda _: Reply(status, raw=b"")) as server, pytest.raises(error):
        Coordinators([server.url]).has("/v1/thing")


def test_a_removal_has_a_key_and_goes_to_the_next_coordinator(dead: str) -> None:
    with serving(says("second")) as server:
        assert Coordinators([dead, server.url]).delete("/v1/thing", "once") == {"from": "second"}
    (asked,) = server.asked
    assert (asked.method, asked.headers["x-idempotency-key"], asked.body) == ("DELETE", "once", b"")
