"""Virtual time, a seeded network, disks, clients and hosts around some coordinators. Times are the protocol's milliseconds, but few."""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from skyclaw.cluster.configuration import Configuration, as_event
from skyclaw.cluster.messages import Message, Pull, Pulled
from skyclaw.cluster.replication import Effects, Node, Pace, Written
from skyclaw.codec import CODEC
from skyclaw.records import GENESIS_EPOCH, GENESIS_HASH, Record, sealed
from tests.cluster.simulation.checker import Checker, Violation, require
from tests.cluster.simulation.clerk import FENCED, OK, Clerk, Reply, Request
from tests.cluster.simulation.disk import Disk, Logs

DEPLOYMENTS = 3  # of each service
TICK, PULL, REST = 7, 30, 20
PATIENCE = 3000  # how long everything may take to come to rest after the storm


@dataclass(frozen=True)
class Plan:
    """What a world is like."""

    nodes: int = 3
    voters: int = 3
    copies: int = 2
    logs: int = 1
    jobs: int = 6
    services: int = 0
    storm_ms: float = 600  # how long the adversary is at work
    violence: float = 1
    down: int = 0  # coordinators that never come back
    grown: bool = False  # logs are founded by one node and grow; otherwise they have all their voters from the start
    forced: bool = False  # one log loses too many voters and is forced
    min_copies: int = 1
    stewarded: bool = False  # owners replace voters that are silent for long
    pace: Pace = field(default_factory=lambda: Pace(20, 70, 70, 1, 1 << 20, 8))


@dataclass
class Coordinator:
    """A process: what is lost when it crashes, and what is not."""

    name: str
    disk: Disk
    offset: float  # of its clock
    rate: float
    up: bool = False
    gone: bool = False
    life: int = 0
    busy: float = 0  # until then the disk is busy
    full_until: float = 0  # until then every transaction fails
    pull_at: float = 0
    stopping: bool = False
    known: dict[str, int] = field(default_factory=dict)  # what was durable and heard to be committed, by log
    commits: dict[str, int] = field(default_factory=dict)  # what the node said to be committed in this life
    met: dict[str, float] = field(default_factory=dict)  # when others were last heard of
    levels: dict[tuple[str, str], int] = field(default_factory=dict)  # how far others said to be, by node and log
    lost: Logs = field(default_factory=dict)  # what was on a disk that is lost; it counted once
    node: Node = None  # type: ignore[assignment]  # from the start on
    clerk: Clerk = None  # type: ignore[assignment]


@dataclass
class Host:
    """Takes jobs and reports results, one after the other."""

    name: str
    alive: bool = True
    life: int = 0
    claims: int = 0
    job: str | None = None
    token: Any = None
    until: float = 0


class World:
    """Everything there is, run from a seed. Whoever is hostile to it is in `adversary`."""

    def __init__(self, seed: int, plan: Plan, probe: bool = True) -> None:
        self.seed, self.plan, self.rng = seed, plan, random.Random(seed)  # noqa: S311
        self.t, self._heap, self._count, self._stamps = 0.0, [], 0, 0  # type: ignore[var-annotated]
        self.min_copies = plan.min_copies
        self.loss, self.side, self.oneway = 0.0, {}, set()  # type: ignore[var-annotated]
        self.storm_until = plan.storm_ms
        self.stats: Counter[str] = Counter()
        self.check = Checker(self, probe)
        self.names = [f"n{number}" for number in range(plan.nodes)]
        self.coordinators = {name: self._coordinator(name) for name in self.names}
        self.founders = self.names[: plan.logs]
        for index, log in enumerate(self.founders):
            voters = frozenset(self.names[(index + step) % plan.nodes] for step in range(plan.voters))
            if not plan.grown:
                self._settle_founding(log, Configuration(voters, plan.copies))
        for p in self.coordinators.values():
            self.start(p)
        if plan.grown:
            for log in self.founders:
                p = self.coordinators[log]
                self.step(p, lambda now, p=p: p.node.found(p.name, now))  # type: ignore[misc]
        self.todo = {f"{self.rng.choice(self.founders)}/key{number}" for number in range(plan.jobs)}
        for job_id in sorted(self.todo):
            self.at(self.rng.uniform(0, plan.storm_ms * 0.8), self.client, job_id)
        services = [f"service {number}" for number in range(plan.services)]
        self.todo |= {f"{name}/{time}" for name in services for time in range(DEPLOYMENTS)}
        for name in services:
            for time in range(DEPLOYMENTS):
                self.at(self.rng.uniform(0, plan.storm_ms * 0.8), self.developer, name, f"{name}/{time}")
        self.hosts = {name: Host(name) for name in ("h0", "h1")}
        for host in self.hosts.values():
            self.at(self.rng.uniform(0, 30), self.host, host, 0)

    def at(self, delay: float, act: Callable[..., None], *args: Any) -> None:
        """Let something happen later."""
        self._count += 1
        heapq.heappush(self._heap, (self.t + delay, self._count, act, args))

    def run(self) -> "World":
        """Run until everything has come to rest after the storm; raise Violation on any broken invariant, missing progress included."""
        look = self.plan.storm_ms
        while self._heap:
            self.t, _, act, args = heapq.heappop(self._heap)
            act(*args)
            if self.t >= look:
                look = self.t + REST
                why = self._unrest()
                if not why:
                    self.check.at_rest()
                    return self
                require(self.t < self.storm_until + PATIENCE, "no progress", why)
        return self

    def run_until(self, t: float) -> None:
        """Let time pass."""
        while self._heap and self._heap[0][0] <= t:
            self.t, _, act, args = heapq.heappop(self._heap)
            act(*args)
        self.t = t

    def _unrest(self) -> str:
        if self.todo:
            return f"unacknowledged {sorted(self.todo)}"
        return self.check.missing()

    # Coordinators

    def _coordinator(self, name: str) -> Coordinator:
        return Coordinator(name, Disk(), self.rng.uniform(-1e6, 1e6), self.rng.uniform(0.9, 1.1))

    def _settle_founding(self, log: str, configuration: Configuration) -> None:
        name, version, data = CODEC.encode(as_event((configuration,)))
        record = sealed(GENESIS_HASH, Record(log, 1, str(GENESIS_EPOCH), "log", name, version, 0, data))
        for voter in configuration.voters:
            disk = self.coordinators[voter].disk
            disk.put(Effects(writes={log: Written(1, [record])}))
            disk.sync()

    def stamp(self) -> int:
        """A number that is never given twice, so that no two records are alike."""
        self._stamps += 1
        return self._stamps

    def start(self, p: Coordinator) -> None:
        """Start a coordinator from what is durable."""
        if p.up or p.gone:
            return
        p.up, p.stopping, p.busy = True, False, self.t
        snapshots = {log: self.rng.randint(0, p.known.get(log, 0)) for log in p.disk.known}
        copies = [p.disk.restored(log, snapshots[log], p.name) for log in p.disk.known]
        draw = random.Random(f"{p.name}/{self.seed}/{p.life}").random  # noqa: S311
        p.node = Node(p.name, copies, p.disk, self.plan.pace, draw, self.min_copies)
        p.commits = {copy.log: copy.committed for copy in copies}
        p.clerk = Clerk(p.node, p.disk, self.stamp, self.check.refused)
        self.at(self.rng.uniform(0, 5), self.tick, p, p.life)

    def join(self) -> Coordinator:
        """A coordinator that was never there before, with an empty disk."""
        name = f"n{len(self.coordinators)}"
        p = self.coordinators[name] = self._coordinator(name)
        self.names.append(name)
        self.start(p)
        return p

    def crash(self, p: Coordinator, for_ever: bool = False) -> None:
        """Any first part of what is on its way to the disk may survive."""
        p.disk.crash(self.rng.randint(0, len(p.disk.pending)))
        p.known = {log: min(known, len(p.disk.durable.get(log, []))) for log, known in p.known.items()}
        p.up, p.gone, p.life = False, p.gone or for_ever, p.life + 1
        self.stats["crashes"] += 1

    def wipe(self, p: Coordinator) -> None:
        """The disk is lost, and with it the node id."""
        self.crash(p, for_ever=True)
        p.lost, p.disk = p.disk.durable, Disk()

    def local(self, p: Coordinator) -> int:
        """The time by its own clock."""
        return int(p.offset + p.rate * self.t)

    def tick(self, p: Coordinator, life: int) -> None:
        if p.life != life:
            return
        self.step(p, p.node.tick)
        self.step(p, p.clerk.tick)
        if self.t >= p.pull_at:
            p.pull_at = self.t + PULL * (0.5 + self.rng.random())
            self.net(p.name, self.rng.choice([name for name in self.names if name != p.name]), p.node.pull(self.local(p)))
        self.at(TICK, self.tick, p, life)

    def step(self, p: Coordinator, act: Callable[[int], object]) -> None:
        """Let a coordinator do something, and see to what follows."""
        if not p.up:
            return
        try:
            act(self.local(p))
        except Exception as error:
            raise Violation(f"coordinator crashed: {p.name} {error!r}") from error
        self._take(p)

    def _take(self, p: Coordinator) -> None:
        effects = p.node.effects()
        stored = bool(effects.promises or effects.writes)
        if stored and self.t < p.full_until:
            effects = self._fail(p, effects)
            stored = False
        self.check.before_write(p, effects)
        p.disk.put(effects)
        self.check.after_step(p, effects)
        p.busy = max(self.t, p.busy) + (self.rng.uniform(0, 8) if stored else 0)
        self.at(p.busy - self.t, self.release, p, p.life)
        outbox, p.clerk.outbox = p.clerk.outbox, []
        for to, message in outbox:
            self.say(p, to, message)

    def _fail(self, p: Coordinator, effects: Effects) -> Effects:
        """The disk is full; returns what is left of the effects."""
        self.stats["failed transactions"] += 1
        touched = sorted({*effects.writes, *effects.promises})
        p.node.undo(effects, [p.disk.restored(log, p.node.replica(log).commit) for log in touched])
        self.check.undone(p, effects)
        for log in touched:
            p.clerk.undone(log, self.local(p))
        left = p.node.effects()
        require(not left.writes and not left.promises and not left.sends, "undone, and still there", p.name, left)
        left.lost = effects.lost
        return left

    def release(self, p: Coordinator, life: int) -> None:
        """The oldest effects are durable: they take effect."""
        if p.life != life or not p.disk.pending:
            return
        effects = p.disk.sync()
        for one in effects.orphans:
            p.known[one.log] = min(p.known.get(one.log, 0), one.first - 1)
        for log, position in effects.committed.items():
            p.known[log] = max(position, p.known.get(log, 0))
        p.clerk.hear(effects, self.local(p))
        for to, message in effects.sends:
            if p.life != life:
                return
            if to == p.name:
                self.step(p, lambda now, message=message: p.node.receive(p.name, message, now))  # type: ignore[misc]
            else:
                self.net(p.name, to, message)
        outbox, p.clerk.outbox = p.clerk.outbox, []
        for to, answer in outbox:
            self.say(p, to, answer)

    def say(self, p: Coordinator, to: str, message: Request | Reply) -> None:
        """An answer or a forwarded request leaves."""
        if isinstance(message, Reply):
            self.check.replied(message)
        self.net(p.name, to, message)

    def holders(self, record: Record) -> set[str]:
        """Who has a record on the disk, or had it."""
        seq, log = record.seq, record.log
        found = set()
        for p in self.coordinators.values():
            held = p.disk.durable.get(log) or p.lost.get(log, [])
            if seq <= len(held) and held[seq - 1].hash == record.hash:
                found.add(p.name)
        return found

    # The network

    def net(self, src: str, to: str, message: Message | Request | Reply) -> None:
        """Carry a message, perhaps."""
        self.stats["messages"] += 1
        self.stats[type(message).__name__] += 1
        apart = self.side and src in self.side and to in self.side and self.side[src] != self.side[to]
        if apart or (src, to) in self.oneway or (self.loss and self.rng.random() < self.loss):
            self.stats["dropped"] += 1
            if src in self.coordinators and self.rng.random() < 0.3:
                p = self.coordinators[src]
                self.at(self.rng.uniform(1, 30), self.step, p, lambda _: p.node.undelivered(to))
            return
        for _ in range(2 if self.loss and self.rng.random() < self.loss else 1):
            slow = self.rng.uniform(30, 200) if self.loss and self.rng.random() < self.loss / 2 else 0
            self.at(1 + self.rng.uniform(0, 8) + slow, self.deliver, src, to, message)

    def deliver(self, src: str, to: str, message: Any) -> None:
        """A message arrives."""
        p = self.coordinators.get(to)
        if p is not None:
            if not p.up:
                return
            p.met[src] = self.t
            if isinstance(message, Request):
                self.step(p, lambda now: p.clerk.ask(message, now))
                return
            if isinstance(message, Pull):
                p.levels.update({(src, copy.log): copy.commit for copy in message.copies})
            if isinstance(message, Pulled) and any(news.records for news in message.news):
                p.pull_at = self.t  # there may be more
            self.step(p, lambda now: p.node.receive(src, message, now))
        elif to == "client":
            if message.status == OK:
                self.todo.discard(message.id.removeprefix("deploy/") if message.op == "deploy" else message.body)
        else:
            self._host_hears(self.hosts[to], message)

    # Clients and hosts

    def _host_hears(self, host: Host, m: Reply) -> None:
        if host.job is None:
            if (m.id, m.status) == (f"claim/{host.name}/{host.name}.{host.claims}", OK):
                (host.job, host.token), host.until = m.body, self.t + self.rng.choice([5, 60, 200])
        elif m.id == f"complete/{host.job}/{host.token}" and m.status in (OK, FENCED):
            host.job, host.claims = None, host.claims + 1

    def ask(self, who: str, op: str, *args: Any) -> None:
        """Send a request to any coordinator."""
        self.net(who, self.rng.choice(self.names), Request(f"{op}/{args[0]}/{args[1]}", who, op, args))

    def client(self, job_id: str) -> None:
        """Enqueue, with the same home log and key every time, until it is acknowledged."""
        if job_id in self.todo:
            self.ask("client", "enqueue", *job_id.split("/"))
            self.at(self.rng.uniform(30, 60), self.client, job_id)

    def developer(self, name: str, wish: str) -> None:
        """Deploy a service, until it is acknowledged."""
        if wish in self.todo:
            self.ask("client", "deploy", name, wish.partition("/")[2])
            self.at(self.rng.uniform(30, 60), self.developer, name, wish)

    def host(self, host: Host, life: int) -> None:
        """Claim, renew or complete, again and again."""
        if host.life != life or not host.alive:
            return
        if host.job is None:
            self.ask(host.name, "claim", host.name, f"{host.name}.{host.claims}")
        elif self.t < host.until:
            self.ask(host.name, "renew", host.job, host.token)
        else:
            self.ask(host.name, "complete", host.job, host.token, f"result of {host.name}.{host.claims}")
        self.at(self.rng.uniform(25, 40), self.host, host, life)

    def flip(self, host: Host) -> None:
        """A host dies, or comes back and knows nothing."""
        host.alive, host.life, host.job, host.claims = not host.alive, host.life + 1, None, host.claims + 1
        self.at(0, self.host, host, host.life)
