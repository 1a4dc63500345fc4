"""What the gateway passes on, byte for byte, and what it does not."""

import threading
from dataclasses import replace

import pytest

from skyclaw.outside.upstream_limits import GatewayLimits
from skyclaw.services.routing import Rules
from tests.gateway.stage import HELLO, PATIENCE_S, Client, Stage, Visit, request, says, staged
from tests.support.real_processes import wait_until

OK = b"HTTP/1.1 200 OK\r\n"
PATIENT = GatewayLimits(look_every_s=0.02)
HOP_BY_HOP = ("Keep-Alive: timeout=5", "TE: trailers", "Trailer: X-T", "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic eA==")


@pytest.mark.parametrize(
    ("target", "arrives"),
    [
        ("/v1/gateway/web", "/"),
        ("/v1/gateway/web/", "/"),
        ("/v1/gateway/svc_1/by/id", "/by/id"),
        ("/v1/gateway/web?a=1", "/?a=1"),
        ("/v1/gateway/web/a%2fb/../c/./d//e?x=%20+y&z=a/b?c", "/a%2fb/../c/./d//e?x=%20+y&z=a/b?c"),
        ("/v1/gateway/web//evil.example/x", "//evil.example/x"),
        ("/v1/gateway/web/%00%0d%0a", "/%00%0d%0a"),
        ("/v1/gateway/web/http://evil.example/", "/http://evil.example/"),
        ("/v1/gateway/web/a;b=c,d", "/a;b=c,d"),
    ],
)
def test_what_follows_the_key_arrives_byte_for_byte(target: str, arrives: str) -> None:
    with staged(says(HELLO)) as stage:
        assert stage.ask("GET", target).status == 200
        assert stage.upstreams[0].got[0].target == arrives


def test_the_path_of_an_endpoint_comes_first() -> None:
    with staged(says(HELLO), prefix="/app") as stage:
        stage.ask("GET", "/v1/gateway/web/x?y")
        assert stage.upstreams[0].got[0].target == "/app/x?y"


@pytest.mark.parametrize("size", [0, 10, 200_000])
def test_a_service_that_was_deployed_just_now_is_waited_for(size: int) -> None:
    asked: list[str] = []
    stages: list[Stage] = []

    def deployed(key: str) -> bool:
        asked.append(key)
        backends = stages[0].backends
        backends.replace([replace(backends.routes[0], name="new")])
        return True

    with staged(says(HELLO), await_route=deployed) as stage:
        stages.append(stage)
        assert stage.ask("POST", "/v1/gateway/new/x", b"b" * size).status == 200
        assert [got.body for got in stage.upstreams[0].got] == [b"b" * size]
        assert stage.ask("GET", "/v1/gateway/new/x").status == 200
    assert asked == ["new"]


def test_a_service_that_does_not_come_is_refused() -> None:
    with staged(says(HELLO), await_route=lambda _: False) as stage:
        assert stage.ask("GET", "/v1/gateway/new").status == 503
        assert stage.upstreams[0].got == []


REFUSED: dict[str, tuple[bytes, int, str]] = {
    "an absolute target": (b"GET http://evil:80/v1/gateway/web/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request"),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request"),
    "no Host": (b"GET /v1/gateway/web/ HTTP/1.1\r\n\r\n", 400, "bad_request"),
    "two Hosts": (b"GET /v1/gateway/web/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_request"),
    "a control character": (b"GET /v1/gateway/web/\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_path"),
    "a tab": (b"GET /v1/gateway/web/\t HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_path"),
    "a fragment": (b"GET /v1/gateway/web/#a HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_path"),
    "a byte beyond ASCII": (b"GET /v1/gateway/web/\xe9 HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""),
    "CONNECT": (b"CONNECT evil:443 HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
    "TRACE": (b"TRACE /v1/gateway/web/ HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
    "a WebSocket": (
        b"GET /v1/gateway/web/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        501,
        "upgrade_unsupported",
    ),
    "no key": (request("GET", "/v1/gateway/"), 404, "not_found"),
    "no key and no slash": (request("GET", "/v1/gateway"), 404, "not_found"),
    "no key but a path": (request("GET", "/v1/gateway//x"), 404, "not_found"),
    "another path": (request("GET", "/v1/jobs"), 404, "not_found"),
    "a path that climbs to the key": (request("GET", "/x/../v1/gateway/web/"), 404, "not_found"),
    "a wrong method for health": (request("POST", "/health"), 405, "method_not_allowed"),
    "an unknown service": (request("GET", "/v1/gateway/nothing/x"), 503, "no_backend"),
    "a service in another case": (request("GET", "/v1/gateway/WEB/x"), 503, "no_backend"),
    "two ways to tell the length": (
        b"POST /v1/gateway/web/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_mislead_somebody_is_refused(case: str) -> None:
    data, status, code = REFUSED[case]
    with staged(says(HELLO)) as stage, Client(stage.port) as client:
        client.send(data)
        said = client.read()
        assert said.status == status
        if code:
            assert said.json["code"] == code
        assert stage.upstreams[0].got == []


def test_an_unknown_service_is_named() -> None:
    with staged() as stage:
        said = stage.ask("GET", "/v1/gateway/shop/")
        assert said.json["error"] == "no healthy endpoints for service shop"
        assert said.all("retry-after") == ["1"]


def test_whoever_wants_a_websocket_learns_the_way() -> None:
    with staged(says(HELLO)) as stage:
        error = stage.ask("GET", "/v1/gateway/web/", b"", "Connection: Upgrade", "Upgrade: websocket").json["error"]
        assert "GET /v1/routes/traefik.json" in error
        assert "skyclaw gateway --print-config" in error


def test_an_offer_of_http_2_is_ignored() -> None:
    with staged(says(HELLO)) as stage:
        assert (
            stage.ask("GET", "/v1/gateway/web/", b"", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x").status
            == 200
        )
        names = {name.lower() for name, _ in stage.upstreams[0].got[0].headers}
        assert not names & {"upgrade", "http2-settings"}


def test_health_and_routes_are_the_gateways_own() -> None:
    with staged(says(HELLO)) as stage:
        said = stage.ask("GET", "/health")
        assert (said.status, said.json) == (200, {"ok": True, "services": ["svc_1", "web"], "contradictoryLengths": 0})
        assert said.all("content-type") == ["application/json"]
        assert stage.ask("GET", "/v1/routes/traefik.json?x").json == {"http": {}}
        assert stage.ask("HEAD", "/health").body == b""


def test_hop_by_hop_headers_end_at_the_gateway_in_both_directions() -> None:
    inner = b"Connection: x-inner, Keep-Alive\r\nKeep-Alive: timeout=5\r\nX-Inner: 1\r\n"
    said_back = OK + inner + b"Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nTrailer: X-T\r\nTrailers: X-T\r\n"
    with staged(says(said_back + b"X-Kept: 1\r\nContent-Length: 5\r\n\r\nhello")) as stage:
        said = stage.ask("GET", "/v1/gateway/web/", b"", "Connection: keep-alive, X-Api-Key", "X-Api-Key: k", "X-Kept: 1", *HOP_BY_HOP)
        there = {name.lower() for name, _ in stage.upstreams[0].got[0].headers}
        back = {name.lower() for name, _ in said.headers}
    assert "x-kept" in there & back
    assert not there & {"x-api-key", "connection", "keep-alive", "te", "trailer", "proxy-connection", "proxy-authorization"}
    assert not back & {"x-inner", "connection", "keep-alive", "proxy-authenticate", "upgrade", "trailer"}


def test_what_only_proxies_may_say_is_not_believed() -> None:
    forged = (
        "X-Forwarded-For: 1.2.3.4",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Anything: x",
        "Forwarded: for=1.2.3.4",
        "X-Skyclaw-Token: t",
    )
    with staged(says(HELLO)) as stage:
        said = stage.ask("GET", "/v1/gateway/web/", b"", *forged, "Via: 1.0 front")
        got = stage.upstreams[0].got[0]
        assert got.all("host") == [f"127.0.0.1:{stage.upstreams[0].port}"]
    assert got.all("x-forwarded-for") == ["127.0.0.1"]
    assert got.all("x-forwarded-proto") == ["http"]
    assert got.all("x-forwarded-prefix") == ["/v1/gateway/web"]
    assert got.all("x-forwarded-host") == ["shop.example"]
    assert got.all("via") == ["1.0 front, 1.1 skyclaw"]
    assert got.all("x-forwarded-anything") + got.all("forwarded") + got.all("x-skyclaw-token") == []
    assert said.all("via") == ["1.1 skyclaw"]


@pytest.mark.parametrize("line", ["Authorization: Bearer ours", "X-Api-Key: ours"])
def test_skyclaws_own_credentials_reach_no_service(line: str) -> None:
    name = line.partition(":")[0]
    with staged(says(HELLO), secrets=("ours",)) as stage:
        stage.ask("GET", "/v1/gateway/web/", b"", line)
        stage.ask("GET", "/v1/gateway/web/", b"", line.replace("ours", "theirs"))
        assert [len(got.all(name)) for got in stage.upstreams[0].got] == [0, 1]


def test_headers_of_an_answer_keep_their_number_order_and_spelling() -> None:
    lines = b'Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\nX-B: 1\r\nETag: W/"x"\r\nX-A: 1\r\n'
    lines += b"Server: theirs\r\nDate: then\r\nContent-Encoding: gzip\r\n"
    with staged(says(OK + lines + b"Content-Length: 5\r\n\r\n\x1f\x8bzzz")) as stage:
        said = stage.ask()
    assert said.headers[:8] == [tuple(line.split(": ", 1)) for line in lines.decode().splitlines()]
    assert said.body == b"\x1f\x8bzzz"
    assert said.all("server") == ["theirs"]
    assert said.all("date") == ["then"]


@pytest.mark.parametrize(
    ("cookie", "becomes"),
    [
        ("a=1; Domain=example; Path=/", "a=1; Path=/"),
        ("a=1; domain=.example", "a=1"),
        ("a=1; DOMAIN = other.test ;Secure", "a=1;Secure"),
        ("a=1; Domain=shop.example; Path=/", "a=1; Domain=shop.example; Path=/"),
        ("a=domain=x; Path=/domain=y", "a=domain=x; Path=/domain=y"),
    ],
)
def test_a_cookie_is_for_no_more_than_the_host_that_was_asked(cookie: str, becomes: str) -> None:
    with staged(says(OK + f"Set-Cookie: {cookie}\r\nContent-Length: 0\r\n\r\n".encode())) as stage:
        assert stage.ask().all("set-cookie") == [becomes]


def test_a_body_is_framed_anew() -> None:
    with staged(says(HELLO)) as stage, Client(stage.port) as client:
        client.send(b"POST /v1/gateway/web/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        client.read_until(b"100 Continue\r\n\r\n")
        client.send(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert client.read("POST").status == 200
        got = stage.upstreams[0].got[0]
    assert (got.body, got.all("content-length"), got.all("transfer-encoding"), got.all("expect")) == (b"abcde", ["5"], [], [])


def test_a_post_without_a_body_says_so() -> None:
    with staged(says(HELLO)) as stage:
        stage.ask("POST", length=False)
        stage.ask("GET", length=False)
        assert [got.all("content-length") for got in stage.upstreams[0].got] == [["0"], []]


def test_a_body_that_is_too_large_is_refused() -> None:
    with staged(says(HELLO), limits=replace(PATIENT, request_bytes=10)) as stage:
        said = stage.ask("POST", body=b"x" * 11)
        assert (said.status, said.json["code"]) == (413, "payload_too_large")
        assert stage.ask("POST", body=b"x" * 10).status == 200


def test_events_arrive_as_they_are_sent() -> None:
    gates = [threading.Event() for _ in range(3)]

    def script(visit: Visit) -> None:
        visit.send(OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number, gate in enumerate(gates):
            assert gate.wait(PATIENCE_S)
            visit.send(b"9\r\ndata: %d\n\n\r\n" % number)
        visit.send(b"0\r\n\r\n")

    with staged(script) as stage, Client(stage.port) as client:
        client.send(request("GET", "/v1/gateway/web/"))
        assert b"200 OK" in client.read_until(b"\r\n\r\n")  # the head, before any event
        for number, gate in enumerate(gates):
            gate.set()
            client.read_until(b"data: %d\n\n\r\n" % number)
        client.read_until(b"0\r\n\r\n")
        client.send(request("GET", "/v1/gateway/web/"))  # and the connection goes on
        client.read_until(b"data: 2\n\n")


def test_pieces_of_a_long_answer_arrive_as_they_are_sent() -> None:
    gate = threading.Event()

    def script(visit: Visit) -> None:
        visit.send(OK + b"Content-Length: 100005\r\n\r\nfirst")
        assert gate.wait(PATIENCE_S)
        visit.send(b"x" * 100_000)

    with staged(script) as stage, Client(stage.port) as client:
        client.send(request("GET", "/v1/gateway/web/"))
        client.read_until(b"first")
        gate.set()
        client.read_until(b"x" * 1000)


@pytest.mark.parametrize("silent", [True, False])
def test_when_the_client_leaves_the_upstream_is_left_too(silent: bool) -> None:
    def script(visit: Visit) -> None:
        if not silent:
            visit.send(OK + b"Content-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        visit.hang()

    with staged(script, rules=Rules(failures=1)) as stage:
        with Client(stage.port) as client:
            client.send(request("GET", "/v1/gateway/web/"))
            if silent:
                wait_until(lambda: stage.upstreams[0].got, "the request arrived")
            else:
                client.read_until(b"data: 1\n\n")
        assert stage.upstreams[0].left.wait(PATIENCE_S)
        wait_until(lambda: stage.in_flight() == 0, "the backend is given back")
        assert stage.states()[0].value == "open"


def test_when_the_client_leaves_a_flood_the_upstream_is_left_too() -> None:
    broken = threading.Event()

    def script(visit: Visit) -> None:
        visit.send(OK + b"Connection: close\r\n\r\n")
        try:
            while True:
                visit.send(b"x" * 100_000)
        except OSError:
            broken.set()
            raise

    with staged(script, rules=Rules(failures=1)) as stage:
        with Client(stage.port) as client:
            client.send(request("GET", "/v1/gateway/web/"))
            client.read_until(b"xxx")
        assert broken.wait(PATIENCE_S)
        wait_until(lambda: stage.in_flight() == 0, "the backend is given back")
        assert stage.states()[0].value == "open"


def test_a_client_that_does_not_take_its_answer_is_cut_and_the_upstream_is_not_blamed() -> None:
    flood = OK + b"Content-Length: 50000000\r\n\r\n" + b"x" * 50_000_000
    limits, rules = replace(PATIENT, drip_s=0.3), Rules(failures=1)
    with staged(says(flood), limits=limits, rules=rules) as stage, Client(stage.port) as client:
        client.send(request("GET", "/v1/gateway/web/"))
        wait_until(lambda: stage.upstreams[0].got and stage.in_flight() == 0, "the client was given up")
        assert not client.read().is_whole
        assert stage.states()[0].value == "open"


LONG = OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"186a0\r\n" + b"x" * 100_000 + b"\r\n0\r\n\r\n"


def test_an_old_client_gets_an_answer_of_unknown_length_until_the_end_of_the_connection() -> None:
    with staged(says(LONG)) as stage, Client(stage.port) as client:
        client.send(b"GET /v1/gateway/web/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        said = client.read()
        assert (said.version, said.body, said.is_whole) == (10, b"x" * 100_000, True)
        assert said.all("transfer-encoding") == []
        assert client.socket.recv(1) == b""


def test_an_old_client_may_keep_its_connection_when_the_length_is_known() -> None:
    with staged(says(HELLO)) as stage, Client(stage.port) as client:
        for _ in range(2):
            client.send(b"GET /v1/gateway/web/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert client.read().body == b"hello"
        client.send(b"GET /v1/gateway/web/ HTTP/1.0\r\n\r\n")
        assert client.read().body == b"hello"
        assert client.socket.recv(1) == b""


def test_a_client_that_asks_for_it_has_its_connection_closed() -> None:
    with staged(says(LONG)) as stage, Client(stage.port) as client:
        client.send(request("GET", "/v1/gateway/web/", b"", "Connection: close"))
        said = client.read()
        assert (said.body, said.is_whole, said.all("connection")) == (b"x" * 100_000, True, ["close"])
        assert client.socket.recv(1) == b""


def test_requests_that_are_sent_ahead_are_answered_in_order() -> None:
    def script(visit: Visit) -> None:
        visit.send(OK + b"Content-Length: 2\r\n\r\n" + visit.got.target.encode())

    with staged(script) as stage, Client(stage.port) as client:
        client.send(b"".join(request("GET", f"/v1/gateway/web/{number}") for number in range(3)))
        for number in range(3):
            client.read_until(b"\r\n\r\n/%d" % number)
