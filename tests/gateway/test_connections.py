"""Connections to upstreams: kept, found closed, encrypted; and large bodies on them."""

import contextlib
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skyclaw.entrypoints.relaying import relay_server
from skyclaw.outside.upstream import UpstreamRequest, Upstreams
from skyclaw.outside.upstream_limits import GatewayLimits
from skyclaw.outside.upstream_watch import Exchange
from skyclaw.services.routing import Backend, Rules
from tests.gateway.stage import HELLO, PATIENCE_S, Client, Upstream, Visit, request, says, staged
from tests.support.authority import Authority
from tests.support.real_processes import free_port, wait_until

PATIENT = GatewayLimits(look_every_s=0.02, kept_s=3600.0)
LARGE = 20_000_000


def test_one_connection_carries_many_requests() -> None:
    with staged(says(HELLO), limits=PATIENT) as stage:
        assert [stage.ask().body for _ in range(5)] == [b"hello"] * 5
        assert [stage.ask("POST", body=b"x").body for _ in range(5)] == [b"hello"] * 5
        assert stage.upstreams[0].connections == 1


@pytest.mark.parametrize("close", [b"Connection: close\r\n", b"Connection: keep-alive, Close\r\n"])
def test_a_connection_that_is_announced_to_close_is_not_used_again(close: bytes) -> None:
    with staged(says(b"HTTP/1.1 200 OK\r\n" + close + b"Content-Length: 0\r\n\r\n"), limits=PATIENT) as stage:
        assert [stage.ask().status for _ in range(3)] == [200] * 3
        assert stage.upstreams[0].connections == 3


def test_a_connection_that_was_closed_meanwhile_is_noticed_before_it_is_used() -> None:
    closed = threading.Event()

    def script(visit: Visit) -> None:
        visit.send(HELLO)
        if not closed.is_set():
            visit.socket.shutdown(socket.SHUT_WR)
            closed.set()

    with staged(script, limits=PATIENT) as stage:
        assert stage.ask().body == b"hello"
        assert closed.wait(PATIENCE_S)
        assert stage.ask("POST", body=b"order").body == b"hello"
        assert [got.connection for got in stage.upstreams[0].got] == [1, 2]


def closing_on_the_second(visit: Visit) -> None:
    """Answers the first request of a connection, and closes on the second without a word."""
    if getattr(visit._upstream, "seen", None) == visit.got.connection:
        visit.close()
    else:
        visit._upstream.seen = visit.got.connection  # type: ignore[attr-defined]
        visit.send(HELLO)


def test_a_get_is_repeated_when_a_kept_connection_turns_out_to_be_closed() -> None:
    with staged(closing_on_the_second, limits=PATIENT, retries=0) as stage:
        assert [stage.ask().body for _ in range(2)] == [b"hello"] * 2
        assert [got.connection for got in stage.upstreams[0].got] == [1, 1, 2]


@pytest.mark.parametrize("body", [b"", b"order", b"x" * 300_000])
def test_a_post_is_never_repeated_when_a_kept_connection_turns_out_to_be_closed(body: bytes) -> None:
    with staged(closing_on_the_second, says(HELLO), limits=PATIENT) as stage:
        first = [stage.ask("POST", body=b"x") for _ in range(2)]
        assert [said.status for said in first] == [200, 200]
        said = stage.ask("POST", body=body)
        assert (said.status, said.json["code"]) == (502, "upstream_unreachable")
        assert [got.body for got in stage.upstreams[0].got].count(body) == 1
        assert len(stage.upstreams[1].got) == 1


def test_a_kept_connection_is_no_longer_ended_for_the_sake_of_whom_it_served() -> None:
    upstream = Upstream(says(HELLO))
    upstreams = Upstreams(PATIENT)
    backend = Backend("ins_1", f"http://127.0.0.1:{upstream.port}", "http", "127.0.0.1", upstream.port)
    first, second = (Exchange(PATIENT, lambda: True, lambda: None) for _ in range(2))
    try:
        assert upstreams.ask(backend, UpstreamRequest("GET", "/", ""), first).body == b"hello"
        first.look(0.0)  # its client has left meanwhile
        assert upstreams.ask(backend, UpstreamRequest("POST", "/", ""), second).body == b"hello"
        assert upstream.connections == 1
    finally:
        upstreams.close()
        upstream.close()


def test_a_connection_is_not_kept_for_long() -> None:
    gone = threading.Event()

    def script(visit: Visit) -> None:
        visit.send(HELLO)
        visit.hang()
        gone.set()

    with staged(script, limits=replace(PATIENT, kept_s=0.1)) as stage:
        assert stage.ask().body == b"hello"
        assert gone.wait(PATIENCE_S)


def test_large_bodies_pass_both_ways_at_the_same_time() -> None:
    """An upstream that answers while it still reads."""
    block = os.urandom(50_000)

    def echo(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(visit.got.body) + visit.got.body)

    with staged(echo, limits=PATIENT) as stage:
        body = block * (LARGE // len(block))
        assert stage.ask("POST", body=body).body == body


def test_an_upstream_may_answer_before_it_has_read_the_body() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def early() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\n")
            for _ in range(400):
                connection.sendall(b"x" * 100_000)
                connection.recv(1000)
            while connection.recv(100_000):
                pass

    thread = threading.Thread(target=early, daemon=True)
    thread.start()
    with listener, staged(listener.getsockname()[1], limits=PATIENT) as stage:
        said = stage.ask("POST", body=b"y" * LARGE)
        assert (len(said.body), said.is_whole) == (40_000_000, True)
    thread.join(PATIENCE_S)


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_64_large_answers_at_once_need_little_memory() -> None:
    piece, length = b"x" * 50_000, 5_000_000

    def script(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
        for _ in range(length // len(piece)):
            visit.send(piece)

    def take(port: int) -> int:
        with Client(port) as client:
            client.send(request("GET", "/v1/gateway/web/", b"", "Connection: close"))
            client.read_until(b"\r\n\r\n")
            return client.count_to_the_end()

    with staged(script, limits=PATIENT, rules=Rules(per_backend=64, per_service=64)) as stage, ThreadPoolExecutor(64) as pool:
        take(stage.port)
        before = resident()
        assert list(pool.map(take, [stage.port] * 64)) == [length] * 64
        grown = resident() - before
        assert grown < 64 * length / 4


def test_64_large_requests_at_once_need_little_memory() -> None:
    piece, length = b"x" * 50_000, 5_000_000
    head = request("POST", "/v1/gateway/web/", b"", f"Content-Length: {length}", length=False)

    def script(visit: Visit) -> None:
        visit.send(HELLO)

    def give(port: int) -> int:
        with Client(port) as client:
            client.send(head)
            for _ in range(length // len(piece)):
                client.send(piece)
            return client.read("POST").status

    with staged(script, limits=PATIENT, rules=Rules(per_backend=64, per_service=64)) as stage, ThreadPoolExecutor(64) as pool:
        stage.upstreams[0].keeps_bodies = False
        give(stage.port)
        before = resident()
        assert list(pool.map(give, [stage.port] * 64)) == [200] * 64
        grown = resident() - before
        assert grown < 64 * length / 4


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextlib.contextmanager
def encrypted(context: ssl.SSLContext, answer: bytes, *, clean: bool) -> Iterator[int]:
    """The port of a server that answers one request on each connection, and ends it as TLS wants, or not."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
                    asked = b""
                    while not asked.endswith(b"<end>" if asked.startswith(b"POST") else b"\r\n\r\n"):
                        asked += connection.recv(65_536)
                    connection.sendall(answer)
                    if clean:
                        connection.unwrap()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE_S)


def test_an_upstream_may_be_encrypted(authority: Authority) -> None:
    with encrypted(authority.context, HELLO, clean=True) as port, staged(port, scheme="https", ca_file=authority.file) as stage:
        said = stage.ask("POST", body=b"x" * 300_000 + b"<end>")
        assert (said.status, said.body) == (200, b"hello")


def test_a_name_is_connected_to_where_it_was_pinned_and_told_its_own_name(authority: Authority) -> None:
    with staged(says(HELLO), host="shop.invalid", addresses=("127.0.0.1",)) as stage:
        assert stage.ask().body == b"hello"
        assert stage.upstreams[0].got[0].all("Host") == [f"shop.invalid:{stage.upstreams[0].port}"]
    pinned = {"host": "peer.example", "addresses": ("127.0.0.1",), "scheme": "https", "ca_file": authority.file}
    with encrypted(authority.context, HELLO, clean=True) as port, staged(port, **pinned) as stage:
        assert stage.ask().body == b"hello"
    with encrypted(authority.context, HELLO, clean=True) as port, staged(port, **{**pinned, "host": "shop.example"}) as stage:
        assert stage.ask().json["details"] == {"reason": "certificate not trusted"}


def test_the_next_address_of_a_name_is_tried_when_one_refuses() -> None:
    with staged(says(HELLO), host="shop.invalid", addresses=("::1", "127.0.0.9", "127.0.0.1")) as stage:
        assert stage.ask().body == b"hello"


def test_an_upstream_with_a_certificate_of_somebody_else_is_not_trusted(authority: Authority) -> None:
    with encrypted(authority.context, HELLO, clean=True) as port, staged(port, scheme="https") as stage:
        said = stage.ask()
        assert (said.status, said.json["code"]) == (502, "upstream_unreachable")
        assert said.json["details"] == {"reason": "certificate not trusted"}


def test_an_encrypted_answer_that_is_cut_off_is_not_taken_for_a_whole_one(authority: Authority) -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of i"
    for clean in (True, False):
        with encrypted(authority.context, answer, clean=clean) as port, staged(port, scheme="https", ca_file=authority.file) as stage:
            assert stage.ask().is_whole is clean


def test_an_encrypted_upstream_that_says_nothing_is_left_in_time(authority: Authority) -> None:
    limits = replace(PATIENT, connect_s=0.3)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        staged(listener.getsockname()[1], scheme="https", ca_file=authority.file, limits=limits) as stage,
    ):
        said = stage.ask()
        assert (said.status, said.json["code"]) == (502, "upstream_unreachable")


def test_every_client_gets_its_own_answer_while_others_leave() -> None:
    def echo(visit: Visit) -> None:
        body = visit.got.target.encode()
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def ask(worker: int) -> list[str]:
        wrong = []
        for number in range(60):
            target = f"/{worker}/{number}"
            with Client(stage.port) as client:
                client.send(request("GET" if number % 2 else "POST", f"/v1/gateway/web{target}"))
                if (worker + number) % 3 == 0:
                    continue  # leaves at once
                said = client.read()
                if (said.status, said.body) != (200, target.encode()):
                    wrong.append(f"{target}: {said}")
        return wrong

    limits, rules = replace(PATIENT, look_every_s=0.0005), Rules(per_backend=1000, per_service=1000)
    with staged(echo, limits=limits, rules=rules) as stage, ThreadPoolExecutor(12) as pool:
        assert [wrong for found in pool.map(ask, range(12)) for wrong in found] == []
        wait_until(lambda: stage.in_flight() == 0, "all backends are given back")


def test_one_dead_backend_of_three_is_not_noticed_by_those_who_read() -> None:
    def ask(_number: int) -> int:
        return stage.ask().status

    with staged(free_port(), says(HELLO), says(HELLO), limits=PATIENT) as stage, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(400))) == {200}


def test_a_backend_that_dies_and_comes_back_under_load_costs_no_reader_anything() -> None:
    dead = threading.Event()

    def mortal(visit: Visit) -> None:
        if dead.is_set():
            visit.reset()
        else:
            visit.send(HELLO)

    def ask(number: int) -> int:
        if number in (100, 300):
            (dead.set if number == 100 else dead.clear)()
        return stage.ask().status

    with staged(mortal, says(HELLO), limits=PATIENT) as stage, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(500))) == {200}


def test_a_connection_that_is_closed_already_can_be_ended_again() -> None:
    asked, ended = threading.Event(), threading.Event()

    def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        asked.set()
        channel = environ["skyclaw.abort"].__self__
        wait_until(lambda: channel.socket is None, "the connection is closed")
        environ["skyclaw.abort"]()
        ended.set()
        start_response("200 OK", [])
        return []

    server = relay_server(application, "127.0.0.1", 0, threads=1)
    server.start()
    with Client(server.port) as client:
        client.send(request("GET", "/"))
        assert asked.wait(PATIENCE_S)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert ended.wait(PATIENCE_S)
    server.stop()
