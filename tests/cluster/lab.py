"""A few nodes in memory, whose messages arrive when a test says so."""

from collections.abc import Callable, Collection, Iterable

from skyclaw.cluster.configuration import Configuration, as_event
from skyclaw.cluster.messages import Append, Message
from skyclaw.cluster.replication import Effects, Node, Pace, Written
from skyclaw.codec import CODEC
from skyclaw.events import Event, JobEnqueued, stream_of
from skyclaw.records import GENESIS_EPOCH, GENESIS_HASH, Epoch, Record, sealed
from tests.cluster.simulation.disk import Disk

LOG = "a"
PACE = Pace(heartbeat_ms=10, suspect_ms=35, fresh_ms=35, batch_records=2, window_records=8)
Mail = tuple[str, str, Message]


def record(before: bytes, seq: int, epoch: Epoch | str, event: Event, log: str = LOG) -> Record:
    """A sealed record."""
    name, version, data = CODEC.encode(event)
    return sealed(before, Record(log, seq, str(epoch), stream_of(event), name, version, 0, data))


def job(text: str) -> JobEnqueued:
    """Some event."""
    return JobEnqueued(text, "shell", "{}", ())


class Lab:
    """Nodes a, b, c ...; log "a" has its voters from the start. What a node does is durable at once, and its messages wait in `mail`."""

    def __init__(self, names: str, voters: str = "", copies: int = 1, pace: Pace = PACE, min_copies: int = 1) -> None:
        self.now, self.pace, self.min_copies = 1000, pace, min_copies
        self.mail: list[Mail] = []
        self.cut: set[str] = set()  # whose mail, to and fro, is lost
        self.deaf: set[str] = set()  # who hears no owner
        self.disks = {name: Disk() for name in names}
        self.nodes: dict[str, Node] = {}
        self.seen: dict[str, list[Effects]] = {name: [] for name in names}
        if voters:
            first = record(GENESIS_HASH, 1, GENESIS_EPOCH, as_event((Configuration(frozenset(voters), copies),)))
            for voter in voters:
                self.store(voter, Effects(writes={LOG: Written(1, [first])}))
        for name in names:
            self.restart(name)

    def store(self, name: str, effects: Effects) -> None:
        """Make effects durable."""
        self.disks[name].put(effects)
        self.disks[name].sync()

    def restart(self, name: str, committed: int = 0) -> None:
        """Start a node from its disk; its timers run out one after the other, in the order of the names."""
        disk, share = self.disks[name], sorted(self.disks).index(name) / len(self.disks)
        copies = [disk.restored(log, committed, name) for log in disk.known]
        self.nodes[name] = Node(name, copies, disk, self.pace, lambda: share, self.min_copies)

    def do(self, name: str, act: Callable[[Node, int], object]) -> Effects:
        """Let a node do something; returns what followed first."""
        act(self.nodes[name], self.now)
        return self.settle(name)

    def settle(self, name: str) -> Effects:
        """Make durable and send what a node wants, what it sends itself included; returns the first effects."""
        first = None
        while True:
            effects = self.nodes[name].effects()
            first = first or effects
            self.seen[name].append(effects)
            self.store(name, effects)
            for to, message in effects.sends:
                if to == name:
                    self.nodes[name].receive(name, message, self.now)
                else:
                    self.mail.append((name, to, message))
            if all(to != name for to, _ in effects.sends):
                return first

    def fail(self, name: str) -> Effects:
        """The transaction of what a node wants fails."""
        effects, disk = self.nodes[name].effects(), self.disks[name]
        touched = {*effects.writes, *effects.promises}
        self.nodes[name].undo(effects, [disk.restored(log, self.nodes[name].replica(log).commit) for log in touched])
        return effects

    def deliver(self, lost: Callable[[Mail], bool] = lambda _: False) -> int:
        """Deliver all mail, and what comes of it; returns how many messages that were."""
        count = 0
        while self.mail:
            src, to, message = item = self.mail.pop(0)
            unheard = to in self.deaf and isinstance(message, Append)
            if not unheard and not ({src, to} & self.cut) and to in self.nodes and not lost(item):
                count += 1
                self.do(to, lambda node, now, src=src, message=message: node.receive(src, message, now))  # type: ignore[misc]
        return count

    def wait(self, ms: int, names: Iterable[str] = "") -> None:
        """Let time pass; mail arrives at once."""
        for _ in range(0, ms, 5):
            self.now += 5
            for name in names or sorted(self.nodes):
                if name in self.nodes:
                    self.do(name, lambda node, now: node.tick(now))
            self.deliver()

    def wait_for_owner(self, among: Collection[str] = "", log: str = LOG) -> str:
        """Let time pass until one of them owns the log."""
        for _ in range(200):
            for name in among or sorted(self.nodes):
                if name in self.nodes and self.nodes[name].owns(log):
                    self.wait(20)
                    return name
            self.wait(5)
        raise AssertionError("nobody owns the log")

    def propose(self, name: str, text: str, log: str = LOG) -> Effects:
        """Have the owner write an event, and send it."""
        return self.do(name, lambda node, now: propose(node, text, now, log))

    def pull(self, name: str, src: str) -> None:
        """A node asks another for news, again and again until there are none."""
        for _ in range(100):
            end = self.ends(name)
            pull = self.nodes[name].pull(self.now)
            self.do(src, lambda node, now, pull=pull: node.receive(name, pull, now))  # type: ignore[misc]
            self.deliver()
            if self.ends(name) == end:
                return

    def ends(self, name: str) -> list[tuple[str, int, int]]:
        """Logs, ends and commit positions of a node."""
        node = self.nodes[name]
        return [(log, node.replica(log).end, node.replica(log).commit) for log in node.logs]

    def texts(self, name: str, log: str = LOG) -> list[str]:
        """The ids of the jobs in a node's copy."""
        return [one.stream for one in self.disks[name].logs.get(log, []) if one.type == "JobEnqueued"]

    def commit(self, name: str, log: str = LOG) -> int:
        """How far a node knows the log to be committed."""
        return self.nodes[name].replica(log).commit


def propose(node: Node, text: str, now: int, log: str = LOG) -> None:
    """Have a node write an event."""
    replica, epoch = node.replica(log), node.epoch(log)
    node.propose(log, epoch, [record(replica.hash, replica.end + 1, epoch, job(text), log)], now)


def voting(voters: str, copies: int) -> Configuration:
    """A configuration."""
    return Configuration(frozenset(voters), copies)
