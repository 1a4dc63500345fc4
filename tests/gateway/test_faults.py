"""What the gateway answers when an upstream misbehaves: each fault alone, and beside an upstream that works."""

import threading
import time
from dataclasses import replace

import pytest

from skyclaw.outside.upstream_limits import GatewayLimits
from skyclaw.services.routing import Rules, State
from tests.gateway.stage import HELLO, PATIENCE_S, Client, Script, Visit, request, says, staged
from tests.support.real_processes import free_port, wait_until

OK = b"HTTP/1.1 200 OK\r\n"
QUICK = GatewayLimits(header_s=0.5, patience_s=0.1, answer_s=0.8, drip_s=0.3, look_every_s=0.02)
PATIENT = GatewayLimits(look_every_s=0.02)
PROTOCOL, UNREACHABLE, TIMEOUT = (502, "upstream_protocol"), (502, "upstream_unreachable"), (504, "upstream_timeout")


def dripping(beginning: bytes, drop: bytes) -> Script:
    """Goes on for ever, a little at a time."""

    def script(visit: Visit) -> None:
        visit.send(beginning)
        while True:
            visit.send(drop)
            time.sleep(0.01)

    return script


def never(visit: Visit) -> None:
    visit.hang()


CLOSE, HANG = Visit.close, Visit.hang

# What it does; how long it may; what is answered when it is alone.
FAULTS: dict[str, tuple[Script, GatewayLimits, tuple[int, str]]] = {
    "closes at once": (Visit.close, PATIENT, UNREACHABLE),
    "resets": (Visit.reset, PATIENT, UNREACHABLE),
    "never answers": (never, QUICK, TIMEOUT),
    "dies within the status line": (says(b"HTTP/1.1 20", CLOSE), PATIENT, PROTOCOL),
    "dies within a header": (says(OK + b"Content-Le", CLOSE), PATIENT, PROTOCOL),
    "dies after a header": (says(OK + b"X-A: 1\r\n", CLOSE), PATIENT, PROTOCOL),
    "dies after headers that tell no length": (says(OK + b"X-A: 1\r\n\r\n", CLOSE), PATIENT, PROTOCOL),
    "dies within a short body": (says(OK + b"Content-Length: 10\r\n\r\nhalf", CLOSE), PATIENT, PROTOCOL),
    "dies before the first chunk": (says(OK + b"Transfer-Encoding: chunked\r\n\r\n", CLOSE), PATIENT, PROTOCOL),
    "drips its headers": (dripping(OK, b"X-A: 1\r\n"), QUICK, TIMEOUT),
    "drips bytes of a header": (dripping(OK + b"X-A: ", b"1"), QUICK, TIMEOUT),
    "drips a short body": (dripping(OK + b"Content-Length: 10000\r\n\r\n", b"x"), QUICK, TIMEOUT),
    "says garbage": (says(b"garbage\r\n\r\n", HANG), PATIENT, PROTOCOL),
    "says garbage without an end": (says(b"\x15\x03\x01", HANG), PATIENT, PROTOCOL),
    "has the status 099": (says(b"HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n"), PATIENT, PROTOCOL),
    "has the status 999": (says(b"HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n"), PATIENT, PROTOCOL),
    "has the status 600": (says(b"HTTP/1.1 600 No\r\nContent-Length: 0\r\n\r\n"), PATIENT, PROTOCOL),
    "speaks HTTP/2.0": (says(b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"), PATIENT, PROTOCOL),
    "ends its lines with LF": (says(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n" + b"\r\n\r\n"), PATIENT, PROTOCOL),
    "folds a header": (says(OK + b"X-A: 1\r\n 2\r\nContent-Length: 0\r\n\r\n"), PATIENT, PROTOCOL),
    "has a space before a colon": (says(OK + b"X-A : 1\r\nContent-Length: 0\r\n\r\n"), PATIENT, PROTOCOL),
    "has a bare CR in a header": (says(OK + b"X-A: 1\rSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"), PATIENT, PROTOCOL),
    "has a NUL in a header": (says(OK + b"X-A: 1\0\r\nContent-Length: 0\r\n\r\n"), PATIENT, PROTOCOL),
    "begins with a bad chunk": (says(OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", HANG), PATIENT, PROTOCOL),
    "has a negative chunk": (says(OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n", HANG), PATIENT, PROTOCOL),
    "has an unknown transfer coding": (says(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), PATIENT, PROTOCOL),
    "has two different lengths": (says(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), PATIENT, PROTOCOL),
    "has two different lengths in one": (says(OK + b"Content-Length: 5, 6\r\n\r\nhello!"), PATIENT, PROTOCOL),
    "has a signed length": (says(OK + b"Content-Length: +5\r\n\r\nhello"), PATIENT, PROTOCOL),
    "has 10,000 headers": (says(OK + b"X-A: 1\r\n" * 10_000 + b"\r\n"), PATIENT, PROTOCOL),
    "has 101 headers": (says(OK + b"X-A: 1\r\n" * 100 + b"Content-Length: 0\r\n\r\n"), PATIENT, PROTOCOL),
    "has a header of 200 KB": (says(OK + b"X-A: " + b"1" * 200_000 + b"\r\n\r\n", HANG), PATIENT, PROTOCOL),
    "says 100 for ever": (says(b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000, HANG), PATIENT, PROTOCOL),
    "changes the protocol": (says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", HANG), PATIENT, (501, "upgrade_unsupported")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_only_upstream_is_told(fault: str) -> None:
    script, limits, (status, code) = FAULTS[fault]
    with staged(script, limits=limits) as stage:
        said = stage.ask()
        assert (said.status, said.json["code"], said.is_whole) == (status, code, True)
        assert said.json["requestId"] == said.all("x-request-id")[0]
        if status == 502:
            assert said.json["error"] == "fetch failed"
        assert stage.in_flight() == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_get_is_answered_by_another_upstream(fault: str) -> None:
    script, limits, _ = FAULTS[fault]
    with staged(script, says(HELLO), limits=replace(limits, header_s=PATIENCE_S)) as stage:
        said = stage.ask()
        if fault == "drips a short body":  # what was begun has all the time there is
            assert said.status == 504
        else:
            assert (said.status, said.body) == (200, b"hello")
        assert len(stage.upstreams[0].got) == 1
        assert stage.in_flight() == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_post_is_sent_once_whatever_happens(fault: str) -> None:
    script, limits, (status, code) = FAULTS[fault]
    with staged(script, says(HELLO), limits=limits) as stage:
        said = stage.ask("POST", body=b"order")
        assert (said.status, said.json["code"]) == (status, code)
        assert [len(upstream.got) for upstream in stage.upstreams] == [1, 0]


# What it does once the first bytes have gone to the client; how long it may.
TORN: dict[str, tuple[Script, GatewayLimits]] = {
    "dies within a long body": (says(OK + b"Content-Length: 1000000\r\n\r\n" + b"x" * 1000, CLOSE), PATIENT),
    "resets within a long body": (says(OK + b"Content-Length: 1000000\r\n\r\n" + b"x" * 1000, Visit.reset), PATIENT),
    "dies between two chunks": (says(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", CLOSE), PATIENT),
    "dies within a chunk": (says(OK + b"Transfer-Encoding: chunked\r\n\r\n50\r\nhello", CLOSE), PATIENT),
    "dies before the last line": (says(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", CLOSE), PATIENT),
    "resets a body that only ends with the connection": (says(OK + b"Connection: close\r\n\r\nhello", Visit.reset), PATIENT),
    "drips a long body": (dripping(OK + b"Content-Length: 1000000\r\n\r\n", b"x"), QUICK),
    "drips chunks": (dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), QUICK),
    "drips until it closes": (dripping(OK + b"Connection: close\r\n\r\n", b"x"), QUICK),
    "falls silent": (says(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", HANG), QUICK),
    "never ends": (dripping(OK + b"Connection: close\r\n\r\n", b"x" * 1_000_000), replace(PATIENT, stream_bytes=10_000_000)),
    "takes too long": (dripping(OK + b"Connection: close\r\n\r\n", b"x" * 10_000), replace(PATIENT, stream_s=0.5)),
    "is a slow event stream": (
        says(OK + b"Content-Type: text/event-stream\r\n\r\ndata: 1\n\n", HANG),
        replace(PATIENT, event_idle_s=0.3),
    ),
}


@pytest.mark.parametrize("fault", TORN)
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_an_answer_that_breaks_off_never_looks_complete(fault: str, version: str) -> None:
    script, limits = TORN[fault]
    with staged(script, says(HELLO), limits=limits) as stage, Client(stage.port) as client:
        client.send(f"GET /v1/gateway/web/ {version}\r\nHost: x\r\n\r\n".encode())
        said = client.read()
        assert (said.status, said.is_whole) == (200, False)
        wait_until(lambda: stage.in_flight() == 0, "the backend is given back")
        assert [len(upstream.got) for upstream in stage.upstreams] == [1, 0]


def test_a_bad_chunk_after_good_ones_breaks_the_answer_off() -> None:
    gate = threading.Event()

    def script(visit: Visit) -> None:
        visit.send(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        assert gate.wait(PATIENCE_S)
        visit.send(b"nonsense\r\n")
        visit.hang()

    with staged(script) as stage, Client(stage.port) as client:
        client.send(request("GET", "/v1/gateway/web/"))
        client.read_until(b"5\r\nhello\r\n")
        gate.set()
        with pytest.raises((AssertionError, ConnectionError)):
            client.read_until(b"0\r\n\r\n")


GOOD: dict[str, tuple[str, bytes, Script, int, bytes]] = {
    "the same length twice": ("GET", b"", says(OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"), 200, b"hello"),
    "length and chunks": (
        "GET",
        b"",
        says(OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        200,
        b"hello",
    ),
    "chunks with extensions and trailers": (
        "GET",
        b"",
        says(OK + b"Transfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"),
        200,
        b"hello",
    ),
    "204 with a body": ("GET", b"", says(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"), 204, b""),
    "304 with a body": ("GET", b"", says(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello"), 304, b""),
    "HEAD with a body": ("HEAD", b"", says(HELLO), 200, b""),
    "HEAD with chunks": ("HEAD", b"", says(OK + b"Transfer-Encoding: chunked\r\n\r\n"), 200, b""),
    "HEAD without a length": ("HEAD", b"", says(OK + b"X-A: 1\r\n\r\n"), 200, b""),
    "ten informational answers": ("GET", b"", says(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 10 + HELLO), 200, b"hello"),
    "a body until the end": ("GET", b"", says(OK + b"\r\nhello", CLOSE), 200, b"hello"),
    "nothing until the announced end": ("GET", b"", says(OK + b"Connection: close\r\n\r\n", CLOSE), 200, b""),
    "HTTP/1.0": ("GET", b"", says(b"HTTP/1.0 200 OK\r\n\r\nhello", CLOSE), 200, b"hello"),
    "no reason": ("GET", b"", says(b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello"), 200, b"hello"),
    "a redirection to somewhere internal": (
        "GET",
        b"",
        says(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"),
        302,
        b"",
    ),
    "a refusal before the body was read": ("POST", b"x" * 100_000, says(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno"), 413, b"no"),
    "a server error": ("GET", b"", says(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy"), 503, b"busy"),
}


@pytest.mark.parametrize("case", GOOD)
def test_an_answer_that_is_odd_but_clear_is_passed_on(case: str) -> None:
    method, body, script, status, expected = GOOD[case]
    with staged(script) as stage:
        said = stage.ask(method, body=body)
        assert (said.status, said.body, said.is_whole) == (status, expected, True)


@pytest.mark.parametrize("case", ["204 with a body", "304 with a body", "HEAD with a body", "HEAD with chunks", "HEAD without a length"])
def test_after_an_answer_without_a_body_the_clients_connection_goes_on(case: str) -> None:
    method, _, script, _, _ = GOOD[case]
    with staged(script) as stage, Client(stage.port) as client:
        for _ in range(3):
            client.send(request(method, "/v1/gateway/web/"))
            said = client.read(method)
            assert (said.body, said.is_whole) == (b"", True)


def test_contradicting_lengths_are_counted_and_their_connection_is_not_used_again() -> None:
    script = GOOD["length and chunks"][2]
    with staged(script) as stage:
        assert [stage.ask().body for _ in range(2)] == [b"hello"] * 2
        assert [got.connection for got in stage.upstreams[0].got] == [1, 2]
        assert stage.ask(path="/health").json["contradictoryLengths"] == 2


def test_bytes_behind_an_answer_are_never_taken_for_the_next_one() -> None:
    with staged(says(HELLO + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")) as stage:
        assert [stage.ask().body for _ in range(3)] == [b"hello"] * 3
        assert [got.connection for got in stage.upstreams[0].got] == [1, 2, 3]


def test_nobody_listening_is_told() -> None:
    with staged(free_port()) as stage:
        said = stage.ask()
        assert (said.status, said.json["error"], said.json["code"]) == (502, "fetch failed", "upstream_unreachable")
        assert said.json["details"] == {"reason": "connection refused"}


def test_the_last_server_error_is_passed_on_as_it_is() -> None:
    busy = b"HTTP/1.1 503 Busy\r\nX-Who: %d\r\nContent-Length: 4\r\n\r\nbusy"
    with staged(says(busy % 1), says(busy % 2), says(busy % 3), retries=1) as stage:
        said = stage.ask()
        assert (said.status, said.body, said.all("x-who")) == (503, b"busy", ["2"])
        assert [len(upstream.got) for upstream in stage.upstreams] == [1, 1, 0]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_server_error_makes_a_repeatable_request_go_elsewhere(method: str) -> None:
    with staged(says(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), says(HELLO)) as stage:
        assert stage.ask(method).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_server_error_of_another_request_is_passed_on(method: str) -> None:
    with staged(says(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), says(HELLO)) as stage:
        assert stage.ask(method).status == 500
        assert stage.upstreams[1].got == []


def test_no_more_upstreams_are_tried_than_allowed() -> None:
    with staged(Visit.close, Visit.close, Visit.close, says(HELLO), retries=2) as stage:
        assert stage.ask().status == 502
        assert [len(upstream.got) for upstream in stage.upstreams] == [1, 1, 1, 0]


def test_a_get_with_a_long_body_is_sent_once() -> None:
    with staged(Visit.close, says(HELLO)) as stage:
        assert stage.ask("GET", body=b"x" * 70_000).status == 502
        assert stage.upstreams[1].got == []


def test_an_upstream_that_fails_again_and_again_is_left_alone_and_one_that_works_is_not() -> None:
    with staged(Visit.close, says(HELLO), rules=Rules(failures=3)) as stage:
        assert {stage.ask().status for _ in range(12)} == {200}
        assert stage.states() == [State.EJECTED, State.OPEN]
        assert len(stage.upstreams[0].got) == 3


def test_a_slow_upstream_is_waited_for_when_there_is_no_other() -> None:
    def slow(visit: Visit) -> None:
        time.sleep(0.4)
        visit.send(HELLO)

    with staged(slow, limits=replace(PATIENT, patience_s=0.05)) as stage:
        assert stage.ask().body == b"hello"


def test_when_all_are_busy_the_client_is_told_when_to_come_back() -> None:
    with staged(never, rules=Rules(per_backend=2)) as stage, Client(stage.port) as one, Client(stage.port) as two:
        for client in (one, two):
            client.send(request("GET", "/v1/gateway/web/"))
        wait_until(lambda: stage.in_flight() == 2, "both are under way")
        said = stage.ask()
        assert (said.status, said.json["code"], said.all("retry-after")) == (503, "overloaded", ["1"])


def test_event_streams_leave_room_for_the_gateways_health() -> None:
    with staged(never, limits=replace(PATIENT, at_once=2)) as stage, Client(stage.port) as one, Client(stage.port) as two:
        for client in (one, two):
            client.send(request("GET", "/v1/gateway/web/"))
        wait_until(lambda: stage.in_flight() == 2, "both are under way")
        said = stage.ask()
        assert (said.status, said.json["code"], said.all("retry-after")) == (503, "overloaded", ["1"])
        assert stage.ask("GET", "/health").status == 200


@pytest.mark.parametrize(
    ("fault", "state"), [("dies within a chunk", State.EJECTED), ("drips chunks", State.EJECTED), ("never ends", State.OPEN)]
)
def test_an_upstream_is_blamed_for_an_answer_that_breaks_off_but_not_for_a_limit_of_the_gateways(fault: str, state: State) -> None:
    script, limits = TORN[fault]
    with staged(script, limits=limits, rules=Rules(failures=1)) as stage:
        assert not stage.ask().is_whole
        wait_until(lambda: stage.in_flight() == 0, "the backend is given back")
        assert stage.states() == [state]
