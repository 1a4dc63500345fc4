from collections.abc import Iterator

import pytest

from api import forwarding
from tests.api.in_process import Client, InProcess
from tests.api.several import Member, Several, several


@pytest.fixture
def inside() -> InProcess:
    """The coordinator behind the client."""
    return InProcess()


@pytest.fixture
def client(inside: InProcess) -> Client:
    """Asks a coordinator that has no token."""
    return Client(inside)


@pytest.fixture
def three() -> Iterator[Several]:
    """Coordinators that forward to each other."""
    with several(3) as them:
        yield them


@pytest.fixture
def a(three: Several) -> Member:
    """The first of them."""
    return three.members[0]


@pytest.fixture
def b(three: Several) -> Member:
    """The second."""
    return three.members[1]


@pytest.fixture
def c(three: Several) -> Member:
    """The third."""
    return three.members[2]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for an owner."""
    monkeypatch.setattr(forwarding, "PATIENCE_S", 0.0)
