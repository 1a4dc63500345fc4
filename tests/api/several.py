"""Several coordinators in one process: each with its own queue, its copies of all logs, and a real server, over which they forward."""

import http.client
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import quote

from skyclaw.entrypoints.serve import Server
from skyclaw.outside.peer_channel import PeerSilent, Reply
from tests.api.in_process import Client, InProcess

TAGS = ("aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd", "eeeeeeee")


class Seat:
    """A coordinator's view of the cluster, and its way to the others."""

    def __init__(self, several: "Several", node: str) -> None:
        self.node, self.ready, self._several = node, True, several
        self.thinks: dict[str, str | None] = {}  # owners by log, where it is mistaken
        self.forwarded: list[tuple[str, str]] = []  # node and target
        self.cut_off = False

    def logs(self) -> Sequence[str]:
        return [book.log for book in self._several[self.node].inside.queue.books.all if book.state.end]

    def owner(self, log: str) -> str | None:
        return self.thinks.get(log, self._several.owners.get(log))

    def in_contact(self, _log: str) -> bool:
        return not self.cut_off

    def committed(self, log: str) -> int | None:
        book = self._several[self.node].inside.queue.books.get(log)
        return book.committed if book is not None else None

    def forward(self, node: str, method: str, target: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Reply:
        self.forwarded.append((node, target))
        connection = http.client.HTTPConnection("127.0.0.1", self._several[node].port, timeout=timeout_s)
        try:
            connection.connect()
        except OSError as error:
            raise PeerSilent(str(error)) from error
        try:
            connection.request(method, target, body or None, dict(headers))
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise PeerSilent(str(error), sent=True) from error
        finally:
            connection.close()


class Member(Client):
    """A client of one of the coordinators; `port` is where it serves, until it is `gone`."""

    def __init__(self, several: "Several", number: int) -> None:
        self.tag, self.node = TAGS[number], f"node-{number}#{number:08x}"
        self.seat = Seat(several, self.node)
        super().__init__(InProcess(log=self.tag, epoch=f"0.1.{self.node}", lock=several.lock), cluster=self.seat, label=f"node-{number}")
        self.server = Server(self.app, "127.0.0.1", 0, threads=8)
        self.server.start()
        self.port = self.server.port

    def gone(self) -> None:
        """Serve no more."""
        self.server.stop()


class Several:
    """The coordinators; each owns the log it founded, until a log is moved."""

    def __init__(self, count: int) -> None:
        self.lock = threading.RLock()
        self.owners: dict[str, str | None] = {}
        self.members: list[Member] = []
        for number in range(count):
            member = Member(self, number)
            self.members.append(member)
            self.owners[member.tag] = member.node
        for member in self.members:
            self.follow(member)

    def __getitem__(self, node: str) -> Member:
        return next(member for member in self.members if member.node == node)

    def follow(self, member: Member) -> None:
        """From now on all others hear at once of what is committed there."""
        member.inside.followers = [other.inside for other in self.members if other is not member]

    def move(self, log: str, to: Member) -> None:
        """Another coordinator decides for this log, which it has level."""
        with self.lock:
            for member in self.members:
                member.inside.queue.disown(log)
            to.inside.queue.own(log, f"0.2.{to.node}", to.inside.now)
            self.owners[log] = to.node


@contextmanager
def several(count: int) -> Iterator[Several]:
    """So many coordinators, that serve while the block runs."""
    them = Several(count)
    try:
        yield them
    finally:
        for member in them.members:
            member.gone()


def header(node: str) -> str:
    """A node's id as it stands in x-skyclaw-tried."""
    return quote(node, safe="#:@")
