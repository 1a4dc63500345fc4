"""What one coordinator may do to another that asks it something: answer, in time and in bounds, or be left."""

import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skyclaw.errors import ServerRefused
from skyclaw.outside.peer_addresses import Pinned, parse
from skyclaw.outside.peer_channel import Channel, PeerSilent, tls_context
from skyclaw.outside.peer_client import PeerClient
from tests.support.authority import Authority
from tests.support.scripted_server import Asked, Hangup, Reply, ScriptedServer, serving

TOKEN = "the-token-of-the-peers"  # noqa: S105 made up
TLS = tls_context(None)
LIMIT = 100_000


def pinned(url: str, *addresses: str) -> Pinned:
    return Pinned(parse(url), addresses or ("127.0.0.1",))


def channel_to(server: ScriptedServer) -> Channel:
    return Channel(pinned(server.url), TOKEN, TLS)


def call(channel: Channel, timeout_s: float = 10.0) -> dict[str, Any]:
    return channel.call("POST", "/path?q=1", b"{}", timeout_s, LIMIT)


@contextlib.contextmanager
def bytes_server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Accepts connections one after the other and lets `talk` deal with each; the address."""

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(65_536)
                talk(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=run, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_request_has_the_token_and_one_connection_serves_many() -> None:
    with serving(lambda asked: Reply(say={"got": asked.json})) as server:
        channel = channel_to(server)
        assert [call(channel) for _ in range(3)] == [{"got": {}}] * 3
        assert {asked.connection for asked in server.asked} == {1}
        asked = server.asked[0]
        assert (asked.method, asked.path, asked.headers["x-skyclaw-token"]) == ("POST", "/path?q=1", TOKEN)
        assert asked.headers["host"] == server.url.removeprefix("http://")


def test_it_connects_to_the_pinned_address_whatever_the_name_means() -> None:
    with serving(lambda _: Reply()) as server:
        port = server.url.rpartition(":")[2]
        assert call(Channel(pinned(f"http://no.such.name.invalid:{port}"), None, TLS)) == {}
        assert server.asked[0].headers["host"] == f"no.such.name.invalid:{port}"
        assert "x-skyclaw-token" not in server.asked[0].headers


def test_of_several_addresses_the_first_that_answers_is_taken() -> None:
    with serving(lambda _: Reply()) as server:
        assert call(Channel(pinned(server.url, "127.0.0.2", "127.0.0.1"), None, TLS)) == {}


def test_a_kept_connection_that_was_closed_is_replaced() -> None:
    with serving(lambda _: Reply(headers={"connection": "close"})) as server:
        channel = channel_to(server)
        assert [call(channel) for _ in range(2)] == [{}] * 2
        assert [asked.connection for asked in server.asked] == [1, 2]


def test_a_redirect_is_not_followed_and_the_token_stays_here() -> None:
    with serving(lambda _: Reply()) as elsewhere, serving(lambda _: Reply(302, headers={"location": elsewhere.url})) as server:
        with pytest.raises(ServerRefused) as refused:
            call(channel_to(server))
        assert refused.value.status == 302
        assert elsewhere.asked == []


def test_neither_a_proxy_nor_a_netrc_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hush\n")
    with serving(lambda _: Reply()) as proxy, serving(lambda _: Reply()) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert call(channel_to(server)) == {}
        assert proxy.asked == []
        assert "authorization" not in server.asked[0].headers


def test_a_refusal_comes_with_its_word() -> None:
    with serving(lambda _: Reply(409, {"error": "not me", "code": "wrong_node", "details": {"node": "n"}})) as server:
        with pytest.raises(ServerRefused) as refused:
            call(channel_to(server))
        assert (refused.value.status, refused.value.code, refused.value.details) == (409, "wrong_node", {"node": "n"})


def test_a_refusal_cannot_write_into_our_log() -> None:
    said = {"error": "a\nb\x1b]0;c" + "x" * 9_999, "code": "x\ny"}
    with serving(lambda _: Reply(400, said)) as server, pytest.raises(ServerRefused) as refused:
        call(channel_to(server))
    assert str(refused.value).startswith("a\\nb\\x1b]0;cxxx")
    assert (len(str(refused.value)) < 300, refused.value.code) == (True, "x\\ny")


@pytest.mark.parametrize("answer", [b"hello", b"[]", b"", b"{", b'{"a":NaN}'])
def test_what_is_no_json_object_is_no_answer(answer: bytes) -> None:
    with serving(lambda _: Reply(raw=answer)) as server, pytest.raises(PeerSilent, match="not a Skyclaw coordinator"):
        call(channel_to(server))


def test_an_answer_that_is_too_large_is_left() -> None:
    with serving(lambda _: Reply(say={"x": "y" * LIMIT})) as server, pytest.raises(PeerSilent, match="too large"):
        call(channel_to(server))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-A: 1\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n",
    ],
)
def test_a_torn_answer_is_none(answer: bytes) -> None:
    with bytes_server(lambda connection: connection.sendall(answer)) as url, pytest.raises(PeerSilent):
        call(Channel(pinned(url), TOKEN, TLS))


@pytest.mark.parametrize(
    "start", [b"", b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"]
)
def test_an_answer_that_drips_is_left_when_its_time_is_over(start: bytes) -> None:
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(start)
        while start and not over.wait(0.02):
            connection.sendall(b"x")
        over.wait(60)

    with bytes_server(drip) as url:
        with pytest.raises(PeerSilent) as silence:
            call(Channel(pinned(url), TOKEN, TLS), timeout_s=0.3)
        over.set()
    assert silence.value.sent


def test_who_cannot_be_reached_has_certainly_got_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(PeerSilent, match="connection refused") as silence:
        call(Channel(pinned(f"http://127.0.0.1:{port}"), TOKEN, TLS))
    assert not silence.value.sent


def test_closing_a_channel_ends_what_is_under_way() -> None:
    arrived, over = threading.Event(), threading.Event()

    def never(_: Asked) -> Reply:
        arrived.set()
        over.wait(60)
        raise Hangup

    with serving(never) as server:
        channel = channel_to(server)

        def close_it() -> None:
            arrived.wait(30)
            channel.close()

        threading.Thread(target=close_it, daemon=True).start()
        before = time.monotonic()
        with pytest.raises(PeerSilent):
            call(channel, timeout_s=60.0)
        assert time.monotonic() - before < 50
        with pytest.raises(PeerSilent, match="no longer a peer"):
            call(channel)
        over.set()


class TestForwarding:
    """A client's request, passed on."""

    def test_everything_comes_through_but_the_clients_token(self) -> None:
        with serving(lambda _: Reply(418, raw=b"\x00raw", content_type="text/plain", headers={"x-a": "b"})) as server:
            client = PeerClient()
            client.know(pinned(server.url), TOKEN)
            given = {
                "X-Idempotency-Key": "k",
                "X-Skyclaw-Token": "the client's own",
                "Content-Type": "application/json",
                "Host": "x",
                "Accept": "*/*",
            }
            reply = client.forward(server.url, "POST", "/v1/jobs?a=%2F", given, b'{"a":1}', 10.0)
            asked = server.asked[0]
        assert (reply.status, reply.body, reply.headers["x-a"]) == (418, b"\x00raw", "b")
        assert (asked.method, asked.path, asked.body) == ("POST", "/v1/jobs?a=%2F", b'{"a":1}')
        assert (asked.headers["x-skyclaw-token"], asked.headers["x-idempotency-key"]) == (TOKEN, "k")
        assert (asked.headers["host"], asked.headers["accept"]) == (server.url.removeprefix("http://"), "*/*")

    def test_it_is_sent_once_even_on_a_connection_that_breaks(self) -> None:
        def second_time_never(asked: Asked) -> Reply:
            if asked.path == "/again":
                raise Hangup
            return Reply()

        with serving(second_time_never) as server:
            client = PeerClient()
            client.know(pinned(server.url), TOKEN)
            client.forward(server.url, "POST", "/first", {}, b"{}", 10.0)
            with pytest.raises(PeerSilent) as silence:
                client.forward(server.url, "POST", "/again", {}, b"{}", 10.0)
            assert [asked.path for asked in server.asked] == ["/first", "/again"]
        assert silence.value.sent

    def test_only_to_those_who_are_known(self) -> None:
        with serving(lambda _: Reply()) as server:
            client = PeerClient()
            first = client.know(pinned(server.url), TOKEN)
            second = client.know(pinned(server.url), TOKEN)
            client.forget(first)
            assert client.channel(server.url) is second
            client.forget(second)
            with pytest.raises(PeerSilent, match="not a peer"):
                client.forward(server.url, "GET", "/", {}, None, 10.0)
            assert server.asked == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def secure(authority: Authority) -> Iterator[int]:
    """The port of an https server that says in each answer which port it was asked from."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            text = b'{"from":%d}' % self.client_address[1]
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: Any) -> None:
            """Nothing to say."""

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that does not trust us is not an error of the test."""

    server = Quiet(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    server.socket = authority.context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("host", ["peer.example", "127.0.0.1"])
def test_https_with_an_authority_of_ones_own(secure: int, authority: Authority, host: str) -> None:
    channel = Channel(pinned(f"https://{host}:{secure}"), TOKEN, tls_context(authority.file))
    ports = {channel.call("GET", "/", None, 10.0, LIMIT)["from"] for _ in range(3)}
    assert len(ports) == 1  # the connection is kept


def test_tls_that_meets_plain_http_is_called_that(secure: int) -> None:
    with serving(lambda _: Reply()) as plain, pytest.raises(PeerSilent, match="it speaks http, not https"):
        call(Channel(pinned(plain.url.replace("http", "https")), TOKEN, TLS))
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(PeerSilent, match="does not answer as https: perhaps"):
        call(Channel(pinned(f"https://127.0.0.1:{silent.getsockname()[1]}"), TOKEN, TLS), 0.2)
    alert = b"\x15\x03\x01\x00\x02\x02\x46"
    with bytes_server(lambda connection: connection.sendall(alert)) as url, pytest.raises(PeerSilent, match="it speaks https, not http"):
        call(Channel(pinned(url), TOKEN, TLS))
    with pytest.raises(PeerSilent):
        call(Channel(pinned(f"http://127.0.0.1:{secure}"), TOKEN, TLS))


def test_https_with_a_stranger_or_under_another_name_is_refused(secure: int, authority: Authority) -> None:
    for channel in (
        Channel(pinned(f"https://peer.example:{secure}"), TOKEN, TLS),
        Channel(pinned(f"https://other.example:{secure}"), TOKEN, tls_context(authority.file)),
    ):
        with pytest.raises(PeerSilent, match="certificate not trusted") as silence:
            channel.call("GET", "/", None, 10.0, LIMIT)
        assert not silence.value.sent
