"""Two queues that share two logs: each owns some and follows the others with a lag, ownership moves, what is not committed is lost.

The network plays store, protocol and HTTP at once. A log is a list of committed events; its owner's turns become part of it, or are taken
back. An owner that was deposed goes on deciding until it notices. Answers leave when what they were computed from is committed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from skyclaw import answers as ans
from skyclaw import commands as cmd
from skyclaw import events as ev
from skyclaw.codec import CODEC
from skyclaw.errors import NotOwner, SkyclawError, Unavailable, Undecided
from skyclaw.records import Epoch
from skyclaw.scheduling import jobs
from skyclaw.scheduling.jobs import Job, Stamp
from skyclaw.scheduling.queue import Queue
from skyclaw.scheduling.state import State
from skyclaw.scheduling.turn import Rules, Turn
from skyclaw.scheduling.turns import Turns
from tests.scheduling.making import T0, asked, numbered_ids, outcome

LOGS = ("aaaaaaaa", "bbbbbbbb")
LEASE = 60_000
MOST_HOPS = 3


def job_id(log: str, number: int) -> str:
    """An id of the log."""
    return f"job_{log}-0000-4000-8000-{number:012x}"


class Ticket:
    """Somebody who waits, at which node and with what."""

    def __init__(self, node: int, command: cmd.Command, hops: int = 0) -> None:
        self.node, self.command, self.hops = node, command, hops
        self.answer: Any = None


@dataclass
class Waiting:
    """An answer on its way: it leaves when these positions are committed under these epochs."""

    positions: dict[str, tuple[str, int]]
    ticket: Ticket
    answer: object


@dataclass
class Node:
    """A queue, and what it decided of which log, not committed yet."""

    queue: Queue
    decided: dict[str, list[Turn]] = field(default_factory=dict)


class Network:
    """Every deed takes small numbers, so that it can be drawn at random."""

    def __init__(self) -> None:
        self.now, self.counter = T0, 0
        self.logs: dict[str, list[tuple[Stamp, ev.Event]]] = {log: [] for log in LOGS}
        self.owners: dict[str, tuple[int, str]] = {}  # log -> node, epoch
        self.epochs = 0
        self.waiting: list[Waiting] = []
        self.acknowledged: set[str] = set()  # jobs
        self.finished: set[str] = set()
        self.leases: dict[str, dict[str, str]] = {}  # host -> job -> token, as the hosts were told
        self.run: dict[str, dict[str, str]] = {}  # host -> instance -> what the host says of it
        self.nodes = [self.born(number) for number in range(len(LOGS))]
        for number, log in enumerate(LOGS):
            self.give(log, number)

    # Stores and owners

    def born(self, number: int) -> Node:
        """A node as it begins: it knows what is committed."""
        queue = Queue(LOGS[number], Rules(lease_ms=LEASE, max_parked=8), self.archived, lambda: 0.0)
        for log in LOGS:
            queue.replace(log, self.folded(log))
        return Node(queue, {log: [] for log in LOGS})

    def folded(self, log: str, upto: int | None = None) -> State:
        """The state of a log at a position."""
        state = State()
        for stamp, event in self.logs[log][:upto]:
            state.apply(event, stamp)
        return state

    def archived(self, job: str, until: int) -> Job | None:
        """What the committed events say about a job."""
        found = None
        for stamp, event in self.logs.get(job[4:12], [])[:until]:
            if getattr(event, "job_id", None) == job:
                found = jobs.evolve(found, event, stamp)
        return found

    def give(self, log: str, number: int) -> None:
        """A node takes a log over; the former owner does not notice."""
        self.epochs += 1
        epoch = str(Epoch(0, self.epochs, f"n{number}"))
        self.owners[log] = number, epoch
        queue = self.nodes[number].queue
        self.follow(number, log, len(self.logs[log]))
        taken = ev.OwnershipTaken(f"n{number}", "takeover"), Stamp(queue.books.book(log).state.end + 1, epoch, self.now)
        turn = queue.adopt(log, [taken], self.now)
        self.nodes[number].decided[log].append(turn)
        self.take_in(number, queue.own(log, epoch, self.now))

    def owns(self, number: int, log: str) -> bool:
        """Does the node believe that it owns the log?"""
        return bool(self.nodes[number].queue.books.book(log).epoch)

    def follow(self, number: int, log: str, most: int) -> None:
        """A node hears of committed events."""
        if self.owns(number, log):
            return
        queue = self.nodes[number].queue
        end = queue.books.book(log).state.end
        events = [(event, stamp) for stamp, event in self.logs[log][end : end + most]]
        self.take_in(number, queue.learn(log, events, self.now))

    def notice(self, number: int, log: str) -> None:
        """A deposed owner hears that it is one."""
        if self.owns(number, log) and self.owners[log][0] != number:
            epoch = self.nodes[number].queue.books.book(log).epoch
            self.take_back(number, log, len(self.nodes[number].decided[log]))
            self.nodes[number].queue.disown(log)
            self.fail(log, epoch, -1)

    def take_back(self, number: int, log: str, many: int) -> None:
        """What a node decided last is refused."""
        node = self.nodes[number]
        for _ in range(min(many, len(node.decided[log]))):
            node.decided[log].pop().take_back()
        book = node.queue.books.book(log)
        self.fail(log, book.epoch, book.state.end)

    def fail(self, log: str, epoch: str, end: int) -> None:
        """What was computed from more than this will never be certain."""
        for one in list(self.waiting):
            if log in one.positions and one.positions[log][0] == epoch and one.positions[log][1] > end:
                self.waiting.remove(one)
                self.deliver(one.ticket, Undecided())

    def commit(self, log: str, many: int) -> None:
        """The oldest turns of the owner are stored."""
        number, epoch = self.owners[log]
        node = self.nodes[number]
        for _ in range(min(many, len(node.decided[log]))):
            turn = node.decided[log].pop(0)
            assert turn.start == len(self.logs[log]), "a turn builds on what is committed"
            for event in turn.events:
                self.keep(log, event, epoch, turn.now)
        node.queue.committed(log, len(self.logs[log]))
        for one in list(self.waiting):
            if all(self.owners[name][1] == under and at <= len(self.logs[name]) for name, (under, at) in one.positions.items()):
                self.waiting.remove(one)
                self.deliver(one.ticket, one.answer)

    def keep(self, log: str, event: ev.Event, epoch: str, at: int) -> None:
        """An event becomes part of the log, if it may."""
        before = self.archived(str(getattr(event, "job_id", "")), len(self.logs[log]))
        match event:
            case ev.JobEnqueued(job_id=name):
                assert name[4:12] == log
                assert before is None
            case ev.JobLeased():
                assert before is not None
                assert before.status == "queued", "a job is leased by one owner only"
            case ev.JobCompleted(host_id=host_id):
                assert before is not None
                assert before.lease is not None
                assert before.lease.host_id == host_id
            case ev.ServiceDeployed(service_id=name, revision=1):
                assert name[4:12] == log
                assert all(one.name != event.name for one in self.folded(log).services.values()), "a name is given once"
            case ev.InstancePlaced(instance_id=name):
                assert name[4:12] == log
        self.logs[log].append((Stamp(len(self.logs[log]) + 1, epoch, at), CODEC.decode(*CODEC.encode(event))))

    def crash(self, number: int) -> None:
        """A node loses its memory, and what was not committed; it takes its logs again."""
        lost = [one for one in self.waiting if one.ticket.node == number]
        self.waiting = [one for one in self.waiting if one not in lost]
        for one in lost:
            self.deliver(one.ticket, Undecided())
        self.nodes[number] = self.born(number)
        for log in LOGS:
            if self.owners[log][0] == number:
                self.give(log, number)

    # Asking

    def ask(self, number: int, command: cmd.Command, hops: int = 0) -> Ticket:
        """Ask a node."""
        ticket = Ticket(number, command, hops)
        self.take_in(number, self.nodes[number].queue.ask(ticket, command, self.now))
        return ticket

    def take_in(self, number: int, turns: Turns) -> None:
        """What was decided waits to be committed, and the answers for it."""
        node = self.nodes[number]
        for turn in turns:
            self.check(node.queue, turn)
            if turn.events:
                node.decided[turn.book.log].append(turn)
            for ticket, answer in turn.answers:
                self.wait(ticket, answer, {turn.book.log: turn.end}, node.queue)
        for ticket, answer in turns.joint:
            self.wait(ticket, answer, turns.positions, node.queue)
        for ticket, answer in turns.free:
            assert isinstance(ticket, Ticket)
            self.deliver(ticket, answer)

    def check(self, queue: Queue, turn: Turn) -> None:
        """A host is given no more than it can hold, as far as the node knows."""
        for event in turn.events:
            if isinstance(event, ev.JobLeased):
                host = queue.books.host(event.host_id)
                assert host.mode == "active"
                assert queue.books.active(host.id) <= host.max_parallel, "room is counted over all logs"

    def wait(self, ticket: object, answer: object, positions: Mapping[str, int], queue: Queue) -> None:
        """Let an answer wait."""
        assert isinstance(ticket, Ticket)
        under = {log: (queue.books.book(log).epoch, end) for log, end in positions.items()}
        if all(self.owners[log][1] == epoch and end <= len(self.logs[log]) for log, (epoch, end) in under.items()):
            self.deliver(ticket, answer)
        else:
            self.waiting.append(Waiting(under, ticket, answer))

    def deliver(self, ticket: Ticket, answer: object) -> None:
        """An answer leaves; what is to be asked of another owner is asked there."""
        assert ticket.answer is None, "one question, one answer"
        ticket.answer = answer
        command = ticket.command
        if isinstance(answer, NotOwner):
            self.forward(ticket.node, command, answer.log, ticket.hops + 1)
        elif isinstance(answer, ans.JobsSeen):
            self.acknowledged |= {seen.job.id for seen in answer.jobs}
        elif isinstance(answer, ans.Claimed) and isinstance(command, cmd.Claim):
            for seen in answer.jobs:
                assert seen.job.lease is not None
                assert any(stamp.token == seen.job.lease.token for stamp, _ in self.logs[seen.job.id[4:12]]), (
                    "an answer that is not committed"
                )
                self.leases.setdefault(command.host_id, {})[seen.job.id] = seen.job.lease.token
        elif isinstance(command, cmd.Report) and not isinstance(answer, Unavailable):
            self.leases.get(command.host_id, {}).pop(command.job_id, None)
            if not isinstance(answer, SkyclawError):
                self.finished.add(command.job_id)
        elif isinstance(answer, ans.HostSeen) and isinstance(command, cmd.Register) and not command.forwarded:
            again = cmd.Register(
                command.host_id,
                command.name,
                command.capabilities,
                command.max_parallel,
                command.labels,
                command.leases,
                True,
                answer.host.life,
            )
            for log in answer.owners:
                self.ask(self.owners[log][0], again)
        elif isinstance(answer, ans.HeartbeatSeen) and isinstance(command, cmd.Heartbeat):
            for gone in answer.lost + answer.cancelled:
                self.leases.get(command.host_id, {}).pop(gone, None)
        elif isinstance(answer, ans.Synced) and isinstance(command, cmd.SyncServices):
            self.obey(command, answer)

    def obey(self, command: cmd.SyncServices, told: ans.Synced) -> None:
        """A host does as it is told: it stops what is not wanted, by whoever speaks for its log, and runs what is."""
        run, wanted = self.run.setdefault(command.host_id, {}), {instance.id: instance for _, instance in told.wanted}
        named = {one.instance_id for one in command.news}
        for name in [name for name in named & set(run) if name in told.stop or (name[4:12] in told.logs and name not in wanted)]:
            live = self.folded(name[4:12]).placed.get(command.host_id, {})
            assert name not in live, "a host stops what is wanted"
            del run[name]
        for name, instance in wanted.items():
            assert instance.host_id == command.host_id
            if instance.status == "draining":
                run[name] = "ended"
            elif name not in named or run.get(name) != "ended":
                run.setdefault(name, "starting")

    def forward(self, number: int, command: cmd.Command, log: str, hops: int) -> None:
        """Another coordinator is asked, if one is known; a claim that waits goes on here where it finds nothing there."""
        owner = self.owners[log][0]
        if owner == number or not self.owns(owner, log) or hops > MOST_HOPS:
            return
        if isinstance(command, cmd.Claim):
            self.ask(owner, cmd.Claim(command.host_id, command.limit, command.claim_id, skip=tuple(one for one in LOGS if one != log)))
            if log not in command.skip:
                self.ask(number, cmd.Claim(command.host_id, command.limit, command.claim_id, command.park, (*command.skip, log)))
        else:
            self.ask(owner, command, hops)

    # What may happen

    def enqueue(self, node: int, home: int, priority: int) -> None:
        """A client hands in a job."""
        self.counter += 1
        self.ask(node, cmd.Enqueue((asked(job_id(LOGS[home], self.counter), priority=priority),), LOGS[home]))

    def register(self, node: int, host: int, room: int, keep: bool) -> None:
        """A host begins a life."""
        host_id = f"h{host}"
        leases = dict(self.leases.get(host_id, {})) if keep else {}
        self.leases[host_id] = leases
        listed = tuple(cmd.HeldLease(*held) for held in leases.items())
        self.ask(node, cmd.Register(host_id, host_id, (), room, (("services", "64"),), listed))

    def claim(self, node: int, host: int, limit: int, park: bool) -> None:
        """A host asks for work."""
        self.ask(node, cmd.Claim(f"h{host}", limit, park=park))

    def report(self, node: int, host: int, which: int) -> None:
        """A host has done a job."""
        held = list(self.leases.get(f"h{host}", {}).items())
        if held:
            name, token = held[which % len(held)]
            self.ask(node, cmd.Report(name, f"h{host}", token, outcome()))

    def heartbeat(self, node: int, host: int) -> None:
        """A host lives."""
        held = tuple(cmd.HeldLease(*one) for one in self.leases.get(f"h{host}", {}).items())
        for number in (node, 1 - node):
            self.ask(number, cmd.Heartbeat(f"h{host}", held))

    def change_mode(self, node: int, host: int, mode: str) -> None:
        """An operator speaks."""
        self.ask(node, cmd.ChangeMode(f"h{host}", mode))

    def deploy(self, node: int, name: str, replicas: int) -> None:
        """A client wants a service, or another revision of it."""
        self.ask(node, cmd.Deploy(name, "serve", replicas=replicas, required=()))

    def change_service(self, node: int, name: str, what: str) -> None:
        """Or something else of it."""
        changes = {"stop": cmd.StopService(name), "restart": cmd.RestartService(name), "remove": cmd.RemoveService(name)}
        self.ask(node, changes.get(what) or cmd.Scale(name, int(what)))

    def sync(self, node: int, host: int, status: str) -> None:
        """A host says how its instances are."""
        host_id = f"h{host}"
        run = self.run.setdefault(host_id, {})
        for number in (node, 1 - node):
            news = {name: known if known == "ended" else status for name, known in run.items()}
            self.ask(number, cmd.SyncServices(host_id, tuple(cmd.InstanceNews(*one) for one in news.items())))

    def reap(self, node: int, ms: int) -> None:
        """Time passes."""
        self.now += ms
        self.ask(node, cmd.Reap())

    def look(self, node: int) -> None:
        """Somebody looks at everything."""
        self.ask(node, cmd.Survey())
        self.ask(node, cmd.ListHosts())

    def hear(self, node: int) -> None:
        """Coordinators tell each other which hosts live."""
        said = self.ask(1 - node, cmd.Rollcall()).answer
        self.ask(node, cmd.Heard(said.ages))

    def news(self, node: int, log: int, most: int) -> None:
        """A node hears of some of a log."""
        self.follow(node, LOGS[log], most)

    def store(self, log: int, many: int) -> None:
        """Turns are committed."""
        self.commit(LOGS[log], many)

    def refuse(self, log: int, many: int) -> None:
        """Turns are not, and the owner hears of it."""
        number, _ = self.owners[LOGS[log]]
        decided = self.nodes[number].decided[LOGS[log]]
        own = sum(isinstance(event, ev.OwnershipTaken) for turn in decided for event in turn.events)
        self.take_back(number, LOGS[log], min(many, len(decided) - own))

    def move(self, log: int, at_once: bool) -> None:
        """Ownership moves; the former owner notices at once, or later."""
        former, _ = self.owners[LOGS[log]]
        if self.owns(1 - former, LOGS[log]):
            return  # it has not noticed yet that it was deposed earlier
        self.give(LOGS[log], 1 - former)
        if at_once:
            self.notice(former, LOGS[log])

    def wake_up(self, node: int) -> None:
        """A node notices what it does not own any more."""
        for log in LOGS:
            self.notice(node, log)

    def fall(self, node: int) -> None:
        """A node crashes."""
        self.crash(node)

    # What must be true

    def agree(self) -> None:
        """Every copy is the fold of what is committed, as far as it goes; what an owner knows is that and its own turns."""
        for node in self.nodes:
            for log in LOGS:
                book = node.queue.books.book(log)
                if not node.decided[log] and (not book.epoch or book.epoch == self.owners[log][1]):
                    right = self.folded(log, book.state.end)
                    same = [
                        (one.end, one.jobs, one.hosts, one.held, one.queued, list(one.keys), one.services, one.placed)
                        for one in (book.state, right)
                    ]
                    assert same[0] == same[1]
                assert book.epoch or not len(book.deadlines)
                instances = {one.id for service in book.state.services.values() for one in service.instances}
                assert set(book.renewed) == (instances if book.epoch else set())

    def calm_down(self) -> None:
        """Everything that can be committed is, everybody knows everything."""
        for _ in range(6):
            for number in range(len(self.nodes)):
                self.wake_up(number)
                for log in LOGS:
                    self.commit(log, 1000)
                    self.follow(number, log, 1000)
                self.reap(number, 0)
        assert not self.waiting

    def come_to_rest(self) -> None:
        """At the end all nodes agree, nobody waits in vain, and every job that was accepted is done, once."""
        self.calm_down()
        self.agree()
        first, second = (node.queue.books for node in self.nodes)
        assert {host.id: host for host in first.hosts()} == {host.id: host for host in second.hosts()}
        self.nobody_waits_in_vain()
        self.register(0, 9, 3, keep=True)
        self.calm_down()
        for _ in range(2 * self.counter + 5):
            for number in range(len(self.nodes)):
                self.claim(number, 9, 3, park=False)
                self.calm_down()
                for host in (1, 2, 9, 9, 9):
                    self.report(number, host, 0)
                self.calm_down()
            self.reap(0, LEASE)
            self.reap(1, 0)
            if not any(book.state.jobs for book in first.all):
                break
        ended = {event.job_id for log in LOGS for _, event in self.logs[log] if isinstance(event, ev.JobCompleted | ev.JobFailed)}
        assert self.acknowledged <= ended, "a job is lost"
        assert self.finished <= ended, "a result is lost"
        self.whoever_waits_is_served()
        self.services_are_as_wanted()

    def services_are_as_wanted(self) -> None:
        """Every copy has the same services, and the hosts run what is wanted of them and nothing else."""
        for _ in range(60):
            for host in (1, 2, 9):
                self.sync(0, host, "running")
                self.calm_down()
            self.reap(0, 5_000)
            self.reap(1, 0)
            self.calm_down()
            if not self.unfinished():
                break
        assert not self.unfinished()
        first, second = (node.queue.books for node in self.nodes)
        assert first.services() == second.services()
        assert {host_id: first.services_digest(host_id) for host_id in self.run} == {
            host_id: second.services_digest(host_id) for host_id in self.run
        }

    def unfinished(self) -> list[object]:
        """The services and hosts that are not as they are to be."""
        books = self.nodes[0].queue.books
        late: list[object] = []
        for service in books.services():
            good = [one for one in service.instances if (one.status, one.revision) == ("running", service.target)]
            if not len(good) == len(service.instances) == service.wanted:
                late.append(service)
        for host_id, run in self.run.items():
            if run.keys() != {instance.id for _, _, instance in books.instances(host_id, books.all)}:
                late.append((host_id, run))
        return late

    def whoever_waits_is_served(self) -> None:
        """A new job in each log finds the hosts that wait, at whichever node they do."""
        for number in range(len(self.nodes)):
            self.register(number, number + 5, 1, keep=True)
            self.calm_down()
            self.claim(number, number + 5, 1, park=True)
        for home in range(len(LOGS)):
            self.enqueue(self.owners[LOGS[home]][0], home, 0)
        self.calm_down()
        self.nobody_waits_in_vain()
        assert not any(book.state.queued for book in self.nodes[0].queue.books.all)

    def nobody_waits_in_vain(self) -> None:
        """No claim is parked while a job that its host could take is to be had."""
        for node in self.nodes:
            books = node.queue.books
            for host_id in node.queue.parking.claimants:
                parked, host = node.queue.parking.of(host_id), books.find_host(host_id)
                assert parked is not None
                if host is not None and books.room(host) > 0 and books.mode_of(host, self.now) == "active":
                    among = [book for book in books.all if book.log not in parked.claim.skip]
                    assert not any(book.state.ready.first(host.capabilities) for book in among)


DEEDS: dict[str, tuple[int, dict[str, list[Any]]]] = {
    "enqueue": (8, {"node": [0, 1], "home": [0, 1], "priority": [0, 0, 1]}),
    "register": (3, {"node": [0, 1], "host": [1, 2], "room": [1, 2, 3], "keep": [True, True, False]}),
    "claim": (10, {"node": [0, 1], "host": [1, 2], "limit": [1, 2, 3], "park": [True, False]}),
    "report": (8, {"node": [0, 1], "host": [1, 2], "which": [0, 1, 2]}),
    "heartbeat": (3, {"node": [0, 1], "host": [1, 2]}),
    "change_mode": (2, {"node": [0, 1], "host": [1, 2], "mode": ["active", "active", "paused", "draining"]}),
    "deploy": (2, {"node": [0, 1], "name": ["s1", "s2"], "replicas": [1, 2, 3]}),
    "change_service": (2, {"node": [0, 1], "name": ["s1", "s2"], "what": ["1", "2", "3", "stop", "restart", "restart", "remove"]}),
    "sync": (5, {"node": [0, 1], "host": [1, 2], "status": ["starting", "running", "running", "failed", "ended"]}),
    "reap": (4, {"node": [0, 1], "ms": [0, 1000, 11_000, 31_000]}),
    "look": (1, {"node": [0, 1]}),
    "hear": (2, {"node": [0, 1]}),
    "news": (14, {"node": [0, 1], "log": [0, 1], "most": [1, 2, 5, 100]}),
    "store": (14, {"log": [0, 1], "many": [1, 2, 5, 100]}),
    "refuse": (2, {"log": [0, 1], "many": [1, 2, 3]}),
    "move": (2, {"log": [0, 1], "at_once": [True, False]}),
    "wake_up": (3, {"node": [0, 1]}),
    "fall": (1, {"node": [0, 1]}),
}


def live(seed: int, deeds: int = 120) -> Network:
    """A whole life from one seed: run it again to see it again."""
    random, network = Random(seed), Network()  # noqa: S311  # nothing secret is drawn
    with numbered_ids():  # drawn ones would make every life of a seed another one
        for name in random.choices(list(DEEDS), [weight for weight, _ in DEEDS.values()], k=deeds):
            getattr(network, name)(**{argument: random.choice(values) for argument, values in DEEDS[name][1].items()})
            network.agree()
        network.come_to_rest()
    return network
