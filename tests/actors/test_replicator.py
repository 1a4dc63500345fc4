"""The Replicator with real stores: three of them, joined by what they send to each other, and a list in the place of the queue."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TypeVar

import pytest

from actors.asking import Post, Reply
from actors.log_messages import (
    Answers,
    Append,
    Checkpoint,
    Followed,
    Interposed,
    OwnershipGained,
    OwnershipLost,
    Read,
    Rejected,
    Rewritten,
)
from actors.log_views import LogViews
from actors.replicator import Replicator
from actors.replicator_messages import Arrived, Force, PullArrived, PullWanted, Reconfigure, Transfer
from actors.stored_copies import StoredPast, durable_copy
from actors.ticker import Ticker
from skyclaw import events as ev
from skyclaw.cluster import messages
from skyclaw.cluster.configuration import Configuration, as_event, founding
from skyclaw.cluster.messages import Message, Pull, Pulled
from skyclaw.cluster.replica import parse_epoch
from skyclaw.cluster.replication import Node, Pace
from skyclaw.codec import CODEC
from skyclaw.errors import LostContact, NotOwner, StorageFull, TooFewCopies, Unavailable
from skyclaw.outside.clock import steady_clock
from skyclaw.records import GENESIS_EPOCH, GENESIS_HASH, Record, sealed
from skyclaw.scheduling.snapshots import Picture
from skyclaw.scheduling.state import State
from skyclaw.store.memory import MemoryEventLog
from tests.support.real_processes import wait_until

T = TypeVar("T")
PACE = Pace(heartbeat_ms=50, suspect_ms=200, fresh_ms=200)


class Heard(Post):
    """Stands where the queue would: keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("JobQueue")
        self.all: list[object] = []
        self.gone = False

    def tell(self, message: object) -> None:
        if self.gone:
            raise Unavailable
        self.all.append(message)

    def of(self, kind: type[T]) -> list[T]:
        return [message for message in self.all if isinstance(message, kind)]


class Net:
    """Carries messages between Replicators, but for the ways that are cut."""

    def __init__(self) -> None:
        self.sites: dict[str, Site] = {}
        self.cut: set[tuple[str, str]] = set()

    def sender(self, src: str) -> Callable[[str, Sequence[Message]], None]:
        def send(to: str, said: Sequence[Message]) -> None:
            if (src, to) not in self.cut and to in self.sites:
                self.sites[to].tell(Arrived(src, said))

        return send

    def stop(self) -> None:
        for site in self.sites.values():
            site.stop()

    def isolate(self, name: str) -> None:
        self.cut |= {way for other in self.sites for way in ((name, other), (other, name)) if other != name}


class Site:
    """A store, its Replicator, and what the queue hears."""

    def __init__(self, net: Net, label: str, min_copies: int = 1) -> None:
        self.store, self.heard, self.views, self.clock = MemoryEventLog(label), Heard(), LogViews(), steady_clock()
        self.name, self.log, self.line, self.end = self.store.node, self.store.log, 0, 0
        node = Node(self.name, [durable_copy(self.store, log, 0) for log in self.store.logs()], StoredPast(self.store), PACE, random.random)
        node.min_copies = min_copies
        node.found(self.log, self.clock())
        self.evicted: set[str] = set()
        self.ref = Replicator.start(
            self.store, node, self.heard, self.clock, net.sender(self.name), self.views, lambda nodes: self.evicted.update(nodes)
        )
        self.ticker = Ticker(self.tell, 0.01, "tick")
        self.ticker.start()
        net.sites[self.name] = self

    def tell(self, message: object) -> None:
        if self.ref.is_alive():
            self.ref.tell(message)

    def stop(self) -> None:
        self.ticker.stop()
        self.ref.stop()

    def owned(self, log: str) -> OwnershipGained:
        """Waits until the log is owned here, and settled."""
        wait_until(lambda: (seen := self.views.of(log)) and seen.in_contact and seen.committed == seen.end, "it owns the log")
        gained = [one for one in self.heard.of(OwnershipGained) if one.log == log][-1]
        self.end = self.store.head(log).seq
        return gained

    def write(self, name: str, log: str | None = None, epoch: str | None = None) -> Reply:
        """Have an event appended, as the queue would."""
        log, reply = log or self.log, Reply()
        epoch = epoch or [one.epoch for one in self.heard.of(OwnershipGained) if one.log == log][-1]
        job = ev.JobEnqueued(f"job_{log}-{name}", "shell", "{}", ())
        self.tell(Append(log, self.line, self.end, epoch, self.clock(), [job], [(reply, name)]))
        self.end += 1
        return reply


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net()
    with ExitStack() as stops:
        stops.callback(net.stop)
        yield net


@pytest.fixture
def three(net: Net) -> list[Site]:
    """Three that vote in the log of the first."""
    sites = [Site(net, label) for label in "abc"]
    first = sites[0]
    first.owned(first.log)
    first.tell(Reconfigure(first.log, Configuration(frozenset(net.sites), 2)))
    wait_until(lambda: (seen := first.views.of(first.log)) and seen.settled and len(seen.voters) == 3 and seen.in_contact, "three vote")
    first.line += 1
    first.owned(first.log)
    return sites


def test_a_lone_coordinator_owns_its_log_at_once(net: Net) -> None:
    site = Site(net, "a")
    gained = site.owned(site.log)
    assert (gained.epoch, gained.end) == (f"0.1.{site.name}", 2)
    assert site.write("x").get(10) == "x"
    assert [record.type for record in site.store.tail(site.log, 0)] == ["ConfigurationChanged", "OwnershipTaken", "JobEnqueued"]


def test_what_was_answered_is_on_two_disks_and_the_others_hear_of_it(three: list[Site]) -> None:
    first, *others = three
    for name in "xyz":
        assert first.write(name).get(10) == name
        assert sum(any(f"-{name}" in one.stream for one in site.store.tail(first.log, 0)) for site in three) >= 2
    wait_until(lambda: all(site.heard.of(Followed)[-1].records[-1].stream.endswith("-z") for site in others), "both heard of it")


def test_the_queue_is_told_where_the_node_put_an_event_of_its_own(three: list[Site]) -> None:
    first = three[0]
    interposed = [record for one in first.heard.of(Interposed) for record in one.records]
    assert [record.type for record in interposed] == ["ConfigurationChanged"] * 2
    assert [record.seq for record in interposed] == [3, 4]


def test_what_was_decided_before_the_node_put_an_event_in_between_is_refused(three: list[Site], net: Net) -> None:
    first = three[0]
    stale = first.write("stale")
    assert stale.get(10) == "stale"
    first.tell(Reconfigure(first.log, Configuration(frozenset(list(net.sites)[:2]), 2)))
    with pytest.raises(Unavailable) as refused:
        first.write("late").get(10)
    assert refused.value.details["written"] is False


def test_a_cut_off_owner_refuses_and_another_one_takes_over(three: list[Site], net: Net) -> None:
    first, second, third = three
    epoch = first.heard.of(OwnershipGained)[-1].epoch
    assert first.write("kept").get(10) == "kept"
    net.isolate(first.name)
    wait_until(lambda: any(seen and seen.owned for seen in (second.views.of(first.log), third.views.of(first.log))), "a new owner")
    heir = next(site for site in (second, third) if (seen := site.views.of(first.log)) and seen.owned)
    with pytest.raises(LostContact):
        first.write("alone").get(10)
    assert "kept" in next(iter(reversed(list(heir.store.tail(first.log, 0))[:-1]))).stream
    net.cut.clear()
    wait_until(lambda: first.heard.of(OwnershipLost), "the old owner hears of it")
    with pytest.raises(Unavailable):
        first.write("stale", epoch=epoch).get(10)
    wait_until(lambda: first.store.head(first.log) == heir.store.head(first.log), "the copies are equal")


def test_an_owner_that_hears_late_takes_nothing_of_its_successor_for_its_own(three: list[Site], net: Net) -> None:
    first, log, kept = three[0], three[0].log, three[0].end
    net.isolate(first.name)
    own = [first.write(f"own{number}") for number in range(3)]
    successor = wait_until(lambda: next((one for one in three[1:] if one.views.of(log).owned), None), "another one takes over")  # type: ignore[union-attr]
    epoch = parse_epoch(successor.owned(log).epoch)
    for number in range(5):
        assert successor.write(f"new{number}", log).get(10) == f"new{number}"
    before, records = successor.store.head_at(log, kept), successor.store.records(log, kept, 100, 1_000_000)
    news = messages.Append(log, epoch, kept, parse_epoch(before.epoch), records, kept + len(records))
    first.tell(Arrived(successor.name, [news]))
    picture = Picture(State())
    picture.end = kept + 3
    first.tell(Checkpoint(log, first.line, f"0.1.{first.name}", picture))  # of what it had decided itself
    first.tell(PullWanted(done := Reply()))
    for reply in own:
        with pytest.raises(Unavailable):
            reply.get(10)
    wait_until(lambda: [one.committed for one in first.heard.of(OwnershipLost)] == [kept], "the queue is to go back to where they agree")
    wait_until(lambda: positions(first.heard.of(Followed), log) == list(range(kept + 1, kept + 7)), "it follows from there on")
    done.get(10)
    for thread in [thread for thread in threading.enumerate() if thread.name == "Snapshot"]:
        thread.join(10)
    assert first.store.snapshot(log) is None


def positions(followed: Sequence[Followed], log: str) -> list[int]:
    """Which positions of a log the queue was told of."""
    return [record.seq for one in followed if one.log == log for record in one.records]


def test_a_log_is_handed_to_a_level_voter(three: list[Site]) -> None:
    first, second, _ = three
    first.tell(Transfer(first.log, second.name))
    second.owned(first.log)
    assert [record.data for record in second.store.of_types(first.log, ["OwnershipTaken"])][-1].count("handed over")
    assert first.heard.of(OwnershipLost)[-1].log == first.log


def test_too_few_copies_refuse_with_what_to_do(net: Net) -> None:
    site = Site(net, "a", min_copies=2)
    site.owned(site.log)
    with pytest.raises(TooFewCopies, match=r"SKYCLAW_MIN_REPLICATIONS=2.*1 is there"):
        site.write("x").get(10)
    assert site.heard.of(Rejected) == [Rejected(site.log, 0, 2)]


def test_a_full_disk_loses_nothing_that_was_answered_and_the_owner_goes_on(three: list[Site]) -> None:
    first = three[0]
    assert first.write("before").get(10) == "before"
    first.store.full = True
    with pytest.raises(StorageFull):
        first.write("meanwhile").get(10)
    rejected = first.heard.of(Rejected)[-1]
    assert rejected.end == first.store.head(first.log).seq
    first.store.full = False
    first.line, first.end = rejected.line + 1, rejected.end
    assert first.write("after").get(10) == "after"
    assert (seen := first.views.of(first.log)) is not None
    assert seen.owned


def test_answers_over_several_logs_wait_for_all_of_them(net: Net) -> None:
    site, reply = Site(net, "a"), Reply()
    epoch = site.owned(site.log).epoch
    site.tell(Answers({site.log: Read(0, epoch, site.end)}, [(reply, "seen")]))
    assert reply.get(10) == "seen"
    unknown = Reply()
    site.tell(Answers({site.log: Read(0, "0.9.other", site.end)}, [(unknown, "seen")]))
    with pytest.raises(Unavailable):
        unknown.get(10)


def test_a_pull_waits_for_news_and_a_learner_catches_up_by_pulling(net: Net) -> None:
    site, learner = Site(net, "a"), Site(net, "b")
    site.owned(site.log)
    for name in "xyz":
        site.write(name).get(10)

    def pulled(until: int) -> Pulled:
        wanted, answer = Reply(), Reply()
        learner.tell(PullWanted(wanted))
        pull: Pull = wanted.get(10)
        site.tell(PullArrived(pull, answer, until))
        news: Pulled = answer.get(30)
        learner.tell(Arrived(site.name, [news]))
        return news

    wait_until(lambda: pulled(0).news == (), "there is no news any more")
    assert learner.store.head(site.log) == site.store.head(site.log)
    waiting = threading.Thread(target=pulled, args=(site.clock() + 20_000,))
    waiting.start()
    site.write("late").get(10)
    waiting.join(20)
    wait_until(lambda: learner.store.head(site.log) == site.store.head(site.log), "the news has come")


class Stranger:
    """Stands where a node would: keeps the messages that come to it, and lets the sender wait while its door is closed."""

    def __init__(self, net: Net, name: str) -> None:
        self.name, self.all, self.door = name, list[Message](), threading.Event()
        self.door.set()
        net.sites[name] = self  # type: ignore[assignment]

    def tell(self, arrived: Arrived) -> None:
        self.door.wait(30)
        self.all += arrived.messages

    def stop(self) -> None:
        """There is nothing to stop."""


def poll(log: str) -> messages.Ask:
    """A question that is answered whatever the log is like."""
    return messages.Ask(log, None, (parse_epoch("0.0.z"), 0))


def test_what_is_said_too_late_for_an_answer_travels_by_itself(net: Net) -> None:
    site, stranger, soon = Site(net, "a"), Stranger(net, "z#00000001"), Reply()
    site.tell(Arrived(stranger.name, [poll(site.log)], soon, site.clock() + 30_000))
    assert [type(one) for one in soon.get(10)] == [messages.Grant]
    assert stranger.all == []
    site.tell(Arrived(stranger.name, [poll(site.log)], Reply(), site.clock() - 1))
    wait_until(lambda: [type(one) for one in stranger.all] == [messages.Grant], "the late answer")


def test_nobody_waits_in_vain_when_a_node_asks_twice_at_the_same_time(net: Net) -> None:
    site, stranger, first, second = Site(net, "a"), Stranger(net, "z#00000001"), Reply(), Reply()
    stranger.door.clear()
    site.tell(Arrived(stranger.name, [poll(site.log)]))  # its answer holds the Replicator up
    for reply in (first, second):
        site.tell(Arrived(stranger.name, [poll(site.log)], reply, site.clock() + 60_000))
    stranger.door.set()
    first.get(10)
    assert second.get(10) != ()


def test_a_forced_takeover_that_was_not_stored_is_a_failure(net: Net) -> None:
    site, reply = Site(net, "a"), Reply()
    site.owned(site.log)
    site.store.full = True
    site.tell(Force(site.log, Configuration(frozenset({site.name}), 1), "ann", reply))
    with pytest.raises(StorageFull):
        reply.get(10)


class Owners:
    """Say what the owners of a log would say, beginning with its founder z."""

    def __init__(self, log: str) -> None:
        self.log, self._records = log, list[Record]()
        self._add(str(GENESIS_EPOCH), as_event(founding("z")))

    def _add(self, epoch: str, *events: ev.Event) -> None:
        for event in events:
            name, version, data = CODEC.encode(event)
            last, seq = self._records[-1].hash if self._records else GENESIS_HASH, len(self._records) + 1
            self._records.append(sealed(last, Record(self.log, seq, epoch, ev.stream_of(event), name, version, 1, data)))

    def say(self, epoch: str, after: int, *events: ev.Event, commit: int) -> Arrived:
        """What the owner under this epoch says when its events follow position `after`; the whole log is sent."""
        del self._records[after:]
        self._add(epoch, *events)
        owner = parse_epoch(epoch)
        return Arrived(owner.node, [messages.Append(self.log, owner, 0, GENESIS_EPOCH, tuple(self._records), commit)])


def test_a_picture_of_what_was_overruled_is_no_snapshot(net: Net) -> None:
    site, owners = Site(net, "a"), Owners("0ddba115")
    jobs = [ev.JobEnqueued(f"job_{owners.log}-{number}", "shell", "{}", ()) for number in range(2)]
    site.tell(owners.say("0.1.z", 1, ev.OwnershipTaken("z", "founded"), *jobs, commit=4))
    wait_until(lambda: positions(site.heard.of(Followed), owners.log) == [1, 2, 3, 4], "the queue knows them")
    site.tell(owners.say("1.1.y", 2, ev.OwnershipTaken("y", "forced by ann"), ev.PeerEvicted("x", "y"), commit=4))
    wait_until(lambda: site.heard.of(Rewritten), "the log is overruled")
    picture = Picture(State())
    picture.end = 4
    for rewritten, is_saved in ((0, False), (1, True)):
        site.tell(Checkpoint(owners.log, 0, "", picture, rewritten))
        site.tell(PullWanted(done := Reply()))
        done.get(10)
        for thread in [thread for thread in threading.enumerate() if thread.name == "Snapshot"]:
            thread.join(10)
        assert (site.store.snapshot(owners.log) is not None) is is_saved


def test_an_eviction_that_was_replaced_before_it_was_committed_turns_nobody_out(net: Net) -> None:
    site, owners = Site(net, "a"), Owners("0ddba115")
    site.tell(owners.say("0.1.z", 1, ev.OwnershipTaken("z", "founded"), ev.PeerEvicted("kept", "z"), commit=2))
    wait_until(lambda: site.store.head(owners.log).seq == 3, "it is stored")
    site.tell(owners.say("0.2.y", 2, ev.OwnershipTaken("y", "takeover"), ev.PeerEvicted("gone", "y"), commit=4))
    wait_until(lambda: "gone" in site.evicted, "the eviction that counts")
    assert site.evicted == {"gone"}


def test_the_queue_is_never_sent_back_to_what_is_not_stored(three: list[Site], net: Net) -> None:
    first, stranger = three[0], Stranger(net, "z#00000001")
    stored = first.store.head(first.log).seq
    stranger.door.clear()
    first.tell(Arrived(stranger.name, [poll(first.log)]))  # what follows is taken in at once, while the Replicator is held up
    written = first.write("written")
    first.tell(Transfer(first.log, three[1].name))
    refused = first.write("refused")  # as the log is being handed over
    first.store.full = True
    stranger.door.set()
    with pytest.raises(StorageFull):
        written.get(10)
    with pytest.raises(Unavailable):
        refused.get(10)
    assert {one.end for one in first.heard.of(Rejected) if one.log == first.log} == {stored}


def test_what_a_deposed_owner_decided_before_it_heard_of_that_is_refused(three: list[Site], net: Net) -> None:
    first, heir, log = three[0], three[1], three[0].log
    epoch = first.heard.of(OwnershipGained)[-1].epoch
    first.tell(Transfer(log, heir.name))
    heir.owned(log)
    wait_until(lambda: first.store.head(log) == heir.store.head(log), "the copies are equal")
    for name in "xy":
        with pytest.raises(NotOwner):
            first.write(name, epoch=epoch).get(10)
    assert first.ref.is_alive()


def test_what_the_queue_decided_after_it_went_back_counts_though_it_comes_together_with_the_rest(three: list[Site], net: Net) -> None:
    first, stranger, log = three[0], Stranger(net, "z#00000001"), three[0].log
    stranger.door.clear()
    first.tell(Arrived(stranger.name, [poll(log)]))  # what follows is taken in at once
    end = first.end
    first.end = end - 1
    stale = first.write("stale")  # decided before the queue heard of the last event
    first.line, first.end = first.line + 1, end
    fresh = first.write("fresh")
    stranger.door.set()
    with pytest.raises(Unavailable):
        stale.get(10)
    assert fresh.get(10) == "fresh"


def test_a_queue_that_is_gone_holds_nothing_up(net: Net) -> None:
    site = Site(net, "a")
    site.owned(site.log)
    site.heard.gone = site.store.full = True
    with pytest.raises(StorageFull):
        site.write("x").get(10)
    site.store.full = False
    site.tell(PullWanted(wanted := Reply()))
    wanted.get(10)
    assert site.ref.is_alive()
