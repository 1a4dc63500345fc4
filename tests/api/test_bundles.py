"""Bundles over real sockets: in, out, in pieces, to and from other coordinators."""

import hashlib
import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api import bundle_exchange
from api.bundle_exchange import BundleExchange
from api.bundle_keeper import BundleKeeper
from api.parts import Alone
from skyclaw.entrypoints.serve import Server
from skyclaw.store.bundles import UNUSED_MS, BundleFiles
from tests.api.in_process import Client, InProcess
from tests.api.raw_http import Raw
from tests.api.service_talk import deploy
from tests.api.several import Several
from tests.support.real_processes import wait_until

MIB = 1024 * 1024
DATA = bytes(range(256)) * 4096 * 12  # more than any other request may have
SHA = hashlib.sha256(DATA).hexdigest()
SMALL = b"small"
SMALL_SHA = hashlib.sha256(SMALL).hexdigest()
GZIP = {"content-type": "application/gzip"}
MAX = 16 * MIB


class Reply:
    """What came back."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.body = response.status, response.read()
        self.headers = {name.lower(): value for name, value in response.getheaders()}


def ask(port: int, method: str, sha256: str, body: bytes | Iterator[bytes] | None = None, **headers: str) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"/v1/bundles/{sha256}", body, named, encode_chunked=isinstance(body, Iterator))
        return Reply(connection.getresponse())
    finally:
        connection.close()


def put(port: int, data: bytes, sha256: str | None = None) -> Reply:
    return ask(port, "PUT", sha256 or hashlib.sha256(data).hexdigest(), data, content_type="application/gzip")


def code(reply: Reply) -> str:
    return reply.body.decode().partition('"code": "')[2].partition('"')[0]


@contextmanager
def serving(client: Client) -> Iterator[int]:
    server = Server(client.app, "127.0.0.1", 0, threads=8, max_large=MAX + MIB)
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


@pytest.fixture
def exchange(inside: InProcess, tmp_path: Path) -> BundleExchange:
    return BundleExchange(BundleFiles(tmp_path / "bundles", MAX), Alone(), None, lambda: inside.now)


@pytest.fixture
def port(inside: InProcess, exchange: BundleExchange) -> Iterator[int]:
    with serving(Client(inside, bundles=exchange)) as port:
        yield port


def test_a_bundle_that_went_in_comes_out(port: int) -> None:
    answer = put(port, DATA)
    assert (answer.status, answer.body) == (
        200,
        b'{\n  "bundle": {\n    "sha256": "%s",\n    "bytes": %d\n  }\n}' % (SHA.encode(), len(DATA)),
    )
    assert put(port, DATA).body == answer.body
    head = ask(port, "HEAD", SHA)
    assert (head.status, head.headers["content-length"], head.headers["content-type"], head.body) == (
        200,
        str(len(DATA)),
        *GZIP.values(),
        b"",
    )
    got = ask(port, "GET", SHA)
    assert (got.status, got.headers["content-type"], got.body == DATA) == (200, "application/gzip", True)


def test_a_bundle_may_come_in_chunks(port: int) -> None:
    chunks = iter([DATA[:MIB], DATA[MIB:]])
    headers = {"content_type": "application/gzip", "transfer_encoding": "chunked"}
    assert ask(port, "PUT", SHA, chunks, **headers).status == 200
    assert ask(port, "HEAD", SHA).headers["content-length"] == str(len(DATA))


def test_another_content_than_its_name_says_is_refused(port: int) -> None:
    answer = put(port, DATA, SMALL_SHA)
    assert (answer.status, code(answer), SHA in answer.body.decode()) == (400, "bad_bundle", True)
    assert ask(port, "GET", SMALL_SHA).status == 404
    assert put(port, b"", SHA).status == 400


def test_what_is_too_large_is_refused_without_being_kept(port: int, tmp_path: Path) -> None:
    answer = put(port, b"x" * (MAX + 1))
    assert (answer.status, code(answer)) == (413, "payload_too_large")
    assert not (tmp_path / "bundles").exists()


def test_what_is_much_too_large_is_refused_before_it_is_sent(port: int) -> None:
    with Raw(port) as raw:
        raw.send(f"PUT /v1/bundles/{SHA} HTTP/1.1\r\nHost: x\r\nContent-Length: {1 << 40}\r\n\r\n".encode())
        assert raw.read().status == 413
        assert raw.is_closed()


def test_only_a_bundle_may_be_that_large(port: int) -> None:
    for method, path in (("POST", "/v1/jobs"), ("PUT", "/v1/jobs"), ("POST", f"/v1/bundles/{SHA}")):
        with Raw(port) as raw:
            raw.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(DATA)}\r\n\r\n".encode())
            assert raw.read().status == 413
            assert raw.is_closed()


def test_another_type_is_refused(port: int) -> None:
    answer = ask(port, "PUT", SMALL_SHA, SMALL, content_type="application/json")
    assert (answer.status, code(answer)) == (415, "unsupported_media_type")


@pytest.mark.parametrize("name", [SMALL_SHA, "x", SMALL_SHA.upper(), SMALL_SHA + "0"])
def test_an_unknown_bundle_is_not_found(port: int, name: str) -> None:
    assert ask(port, "HEAD", name).status == 404
    answer = ask(port, "GET", name)
    assert (answer.status, code(answer)) == (404, "unknown_bundle")


RANGES = {
    f"bytes=0-{2 * len(DATA)}": (DATA, f"bytes 0-{len(DATA) - 1}/{len(DATA)}"),
    "bytes=0-9": (DATA[:10], f"bytes 0-9/{len(DATA)}"),
    "bytes=5-": (DATA[5:], f"bytes 5-{len(DATA) - 1}/{len(DATA)}"),
    "bytes=-3": (DATA[-3:], f"bytes {len(DATA) - 3}-{len(DATA) - 1}/{len(DATA)}"),
    f"bytes={len(DATA) - 1}-{len(DATA) + 5}": (DATA[-1:], f"bytes {len(DATA) - 1}-{len(DATA) - 1}/{len(DATA)}"),
}


def test_a_range_of_a_bundle_can_be_asked_for(port: int) -> None:
    put(port, DATA)
    for asked, (data, told) in RANGES.items():
        answer = ask(port, "GET", SHA, range=asked)
        assert (answer.status, answer.headers["content-range"], answer.body == data) == (206, told, True), asked
    beyond = ask(port, "GET", SHA, range=f"bytes={len(DATA)}-")
    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{len(DATA)}")


def test_a_service_needs_a_bundle_that_is_there(inside: InProcess, exchange: BundleExchange) -> None:
    client = Client(inside, bundles=exchange)
    asked = {"name": "web", "command": "serve", "bundle": SMALL_SHA}
    answer = client.post("/v1/services", asked)
    assert (answer.status, answer.json["code"]) == (404, "unknown_bundle")
    with serving(client) as port:
        put(port, SMALL)
    assert client.post("/v1/services", asked).json["service"]["bundle"] == SMALL_SHA


def test_a_bundle_is_kept_while_a_revision_that_could_come_back_needs_it(inside: InProcess, exchange: BundleExchange) -> None:
    client, keeper = Client(inside, bundles=exchange), BundleKeeper(exchange, inside)
    with serving(client) as port:
        put(port, SMALL)
        put(port, DATA)
    deploy(client, bundle=SMALL_SHA)
    assert keeper.run_once() == (2, 0, 0)
    inside.now += UNUSED_MS
    assert keeper.run_once() == (0, 0, 1)
    assert (exchange.files.size(SMALL_SHA), exchange.files.size(SHA)) == (len(SMALL), None)
    client.ask("DELETE", "/v1/services/web")
    keeper.run_once()
    inside.now += UNUSED_MS
    assert keeper.run_once() == (0, 0, 1)


def test_a_bundle_that_was_asked_for_is_kept_for_an_hour(inside: InProcess, exchange: BundleExchange) -> None:
    keeper = BundleKeeper(exchange, inside)
    with serving(Client(inside, bundles=exchange)) as port:
        put(port, SMALL)
    keeper.run_once()
    inside.now += UNUSED_MS
    exchange.require(SMALL_SHA)
    assert keeper.run_once() == (0, 0, 0)


# Several coordinators


class Shared:
    """Two coordinators of several, with bundles."""

    def __init__(self, several: Several, folder: Path) -> None:
        self.members = several.members[:2]
        self.exchanges, self.clients = [], []
        for member in self.members:
            files = BundleFiles(folder / member.tag, MAX)
            exchange = BundleExchange(files, member.seat, None, lambda: 0)
            client = Client(member.inside, cluster=member.seat, label=member.node, bundles=exchange)
            member.server.stop()
            member.server = Server(client.app, "127.0.0.1", 0, threads=8, max_large=MAX + MIB)
            member.server.start()
            member.port = member.server.port
            self.exchanges.append(exchange)
            self.clients.append(client)
            member.enqueue()  # so that the others hear of its log


@pytest.fixture
def shared(three: Several, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shared:
    monkeypatch.setattr(bundle_exchange, "PIECE", MIB)
    return Shared(three, tmp_path)


def test_a_coordinator_without_a_bundle_asks_the_others_and_keeps_it(shared: Shared) -> None:
    a, b = shared.members
    put(a.port, DATA)
    assert ask(b.port, "GET", SHA).body == DATA
    pieces = [target for node, target in b.seat.forwarded if node == a.node and target.endswith(SHA)]
    assert len(pieces) == len(DATA) // MIB
    b.seat.forwarded.clear()
    assert ask(b.port, "GET", SHA).body == DATA
    assert b.seat.forwarded == []


def test_nobody_is_asked_twice_for_what_there_is_not(shared: Shared) -> None:
    a, b = shared.members
    assert ask(a.port, "GET", SHA).status == 404
    assert [node for node, _ in a.seat.forwarded].count(b.node) == 1
    assert b.seat.forwarded == []


def test_a_bundle_that_is_damaged_elsewhere_is_not_kept(shared: Shared, tmp_path: Path) -> None:
    a, b = shared.members
    put(a.port, DATA)
    with open(tmp_path / a.tag / SHA, "r+b") as file:
        file.write(b"\xff\xff")
    assert ask(b.port, "GET", SHA).status == 404
    assert shared.exchanges[1].files.size(SHA) is None


def test_a_new_bundle_is_made_known_to_the_others(shared: Shared) -> None:
    a = shared.members[0]
    keeper = BundleKeeper(shared.exchanges[0], a.inside)
    keeper.start()
    try:
        put(a.port, SMALL)
        wait_until(lambda: shared.exchanges[1].files.size(SMALL_SHA) == len(SMALL), "the bundle at the other coordinator")
    finally:
        keeper.stop()


def test_what_a_deployed_revision_needs_is_fetched(shared: Shared) -> None:
    a, b = shared.members
    put(a.port, SMALL)
    deploy(shared.clients[0])
    assert BundleKeeper(shared.exchanges[1], b.inside).run_once() == (0, 0, 0)
    deploy(shared.clients[0], bundle=SMALL_SHA)
    assert BundleKeeper(shared.exchanges[1], b.inside).run_once() == (0, 1, 0)
    assert shared.exchanges[1].files.size(SMALL_SHA) == len(SMALL)
