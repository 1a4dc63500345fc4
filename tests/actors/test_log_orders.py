"""An operator's orders about logs, given to real Replicators that hear each other or not."""

import pytest

from actors.asking import Post
from actors.cluster import Cluster
from actors.desk import Desk
from actors.log_messages import OwnershipGained
from actors.log_orders import LogOrders
from actors.replicator_messages import Reconfigure
from skyclaw.cluster.configuration import Configuration
from skyclaw.codec import CODEC
from skyclaw.errors import StorageFull, Unavailable
from skyclaw.events import OwnershipTaken
from tests.actors.test_replicator import Net, Site
from tests.actors.test_replicator import net as net  # the fixture
from tests.support.real_processes import wait_until


def orders(site: Site, replicator: Post | None = None) -> LogOrders:
    if replicator is None:
        replicator = Post("Replicator")
        replicator.ref = site.ref
    nobody = Post("JobQueue")
    return LogOrders(site.store, Cluster(site.name, site.log, 1, site.views, Desk(nobody), nobody, replicator, site.clock))


@pytest.fixture
def two(net: Net) -> tuple[Site, Site]:
    """Two coordinators that both vote in the log of the first."""
    a, b = Site(net, "a"), Site(net, "b")
    a.owned(a.log)
    a.tell(Reconfigure(a.log, Configuration(frozenset({a.name, b.name}), 2)))
    wait_until(lambda: (seen := b.views.of(a.log)) and seen.voters == tuple(sorted((a.name, b.name))), "both vote")
    wait_until(lambda: (seen := a.views.of(a.log)) and seen.settled and seen.committed == seen.end, "that is settled")
    return a, b


def test_the_logs_and_their_ends_are_seen(two: tuple[Site, Site]) -> None:
    a, b = two
    wait_until(lambda: orders(b).head(a.log) == a.store.head(a.log), "the copy is level")
    assert {seen.log for seen in orders(b).views()} == {a.log, b.log}


def test_a_log_whose_owner_is_gone_is_taken_over_and_the_event_says_why(net: Net, two: tuple[Site, Site]) -> None:
    a, b = two
    net.isolate(a.name)
    epoch = orders(b).force(a.log, frozenset({b.name}), 1, "kim: the disk died")
    assert epoch == f"1.1.{b.name}"
    assert b.owned(a.log).epoch == epoch
    last = list(b.store.tail(a.log, 0))[-1]
    assert CODEC.decode(last.type, last.version, last.data) == OwnershipTaken(b.name, "forced by kim: the disk died")
    assert orders(b).head(a.log).epoch == epoch
    net.cut.clear()
    wait_until(lambda: (seen := a.views.of(a.log)) and not seen.owned, "the former owner obeys")


def test_what_cannot_be_stored_is_not_told_as_done(two: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = two

    def full(*_: object) -> None:
        raise StorageFull

    monkeypatch.setattr(b.store, "write", full)
    with pytest.raises(StorageFull):
        orders(b).force(a.log, frozenset({b.name}), 1, "kim")


def test_nobody_there_is_unavailable(two: tuple[Site, Site]) -> None:
    a, b = two
    empty = orders(a, Post("Replicator"))
    for order in (lambda: empty.force(a.log, frozenset({a.name}), 1, "kim"), lambda: empty.transfer(a.log, b.name)):
        with pytest.raises(Unavailable):
            order()


def test_a_log_is_handed_over_and_nothing_is_lost(two: tuple[Site, Site]) -> None:
    a, b = two
    orders(a).transfer(a.log, b.name)
    gained = b.owned(a.log)
    assert isinstance(gained, OwnershipGained)
    assert gained.epoch.startswith("0.")
