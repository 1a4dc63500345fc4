"""Free ports for services."""

import os
import socket
from collections.abc import Iterator

import pytest

from skyclaw.outside.ports import NoFreePort, can_listen, free_port


@pytest.fixture
def first() -> Iterator[int]:
    """The first of three ports that nobody has, and that tests beside this one do not look at."""
    for port in range(21_000 + os.getpid() % 3_000 * 3, 32_000, 3):
        if free_port(port, ()) == port and free_port(port, (port,)) == port + 1 and free_port(port, (port, port + 1)) == port + 2:
            yield port
            return


def bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError:
        listener.close()
        pytest.skip(f"there is no {address} here")
    listener.listen()
    return listener


def test_the_first_port_is_taken_when_it_is_free(first: int) -> None:
    assert free_port(first, ()) == first
    assert free_port(first, {first, first + 1}) == first + 2


def test_who_begins_elsewhere_finds_another_port_and_the_others_nevertheless(first: int) -> None:
    assert free_port(first, (), 2) == first + 2
    assert free_port(first, range(first + 2, first + 1_001), 2) == first


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::")],  # noqa: S104
)
def test_a_port_on_which_somebody_listens_is_not_free(first: int, family: socket.AddressFamily, address: str) -> None:
    with bound(family, address, first):
        assert free_port(first, ()) == first + 1


def test_a_port_whose_last_connections_are_remembered_is_free_only_for_who_asks_for_its_reuse(first: int) -> None:
    """A server that does not ask for its reuse could not listen there."""
    with bound(socket.AF_INET, "127.0.0.1", first) as listener, socket.create_connection(("127.0.0.1", first)) as client:
        served, _ = listener.accept()
        served.close()  # who closes first remembers
        assert client.recv(1) == b""
    assert free_port(first, ()) == first + 1
    assert not can_listen(first, reuse=False)
    assert can_listen(first, reuse=True)


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")])
def test_asking_for_reuse_does_not_help_while_somebody_listens(first: int, family: socket.AddressFamily, address: str) -> None:
    with bound(family, address, first):
        assert not can_listen(first, reuse=True)
    assert can_listen(first, reuse=False)


def test_nothing_holds_the_port_that_was_found(first: int) -> None:
    with bound(socket.AF_INET, "0.0.0.0", free_port(first, ())) as listener:  # noqa: S104
        assert listener.getsockname()[1] == first


def test_no_more_than_a_thousand_ports_beyond_the_first_are_tried() -> None:
    assert free_port(30_000, range(30_000, 30_900)) in range(30_900, 31_001)
    with pytest.raises(NoFreePort, match="no port from 30000 to 31000 is free"):
        free_port(30_000, range(30_000, 31_001))


def test_there_are_no_ports_beyond_the_last_one() -> None:
    with pytest.raises(NoFreePort, match="no port from 65530 to 65535 is free"):
        free_port(65_530, range(65_530, 65_536))
