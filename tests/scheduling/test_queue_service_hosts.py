"""What hosts say about the services that were placed on them, and what they are told."""

from typing import Any

import pytest

from skyclaw import commands as cmd
from skyclaw import events as ev
from skyclaw.answers import Repeated
from skyclaw.errors import NotAssigned, UnknownHost, UnknownService
from skyclaw.services.service import DRAINING, PLACED, RUNNING, STARTING
from tests.scheduling.making import DAY, HOME, MINUTE, Shop, kinds
from tests.scheduling.test_queue_logs import OTHER, THIRD, Shops
from tests.scheduling.test_queue_services import LARGE, deployed

LEASE = 15_000


def statuses(shop: Shop) -> list[str]:
    return sorted(instance.status for service in shop.state.services.values() for instance in service.instances)


def claimed(shop: Shop, host_id: str = "h1") -> str | None:
    """The name of the service that the host gets."""
    answer = shop.ask(cmd.ClaimService(host_id))
    return answer.service.name if answer.service else None


def report(shop: Shop, service: str = "web", status: str = "running", host_id: str = "h1", **fields: Any) -> Any:
    return shop.ask(cmd.ReportService(service, host_id, status, **fields))


@pytest.fixture
def shops() -> Shops:
    shops = Shops()
    shops.host()
    return shops


def theirs(shops: Shops, name: str = "theirs", log: str = LARGE) -> str:
    """An instance that another log has on the host."""
    service, instance = deployed(log, name), f"ins_{log}-0000-4000-8000-000000000001"
    shops.learn(service, ev.InstancePlaced(service.service_id, instance, 1, "h1"), log=log)
    return instance


# Hosts that name all their instances


def test_a_host_learns_what_it_is_to_run(shop: Shop) -> None:
    shop.host()
    service = shop.deploy()
    told = shop.sync(only=())
    assert told.wanted == ((service, service.instances[0]),)
    assert (told.stop, told.logs, told.owners, told.lease_ms) == ((), (HOME,), (), LEASE)


def test_what_a_host_says_is_known_at_once(shop: Shop) -> None:
    shop.host()
    shop.deploy()
    told = shop.sync(endpoint="http://h1:3100")
    (instance,) = shop.service().instances
    assert (instance.status, instance.endpoint, told.wanted[0][1]) == (RUNNING, "http://h1:3100", instance)
    assert kinds(shop) == []
    assert shop.service().rollout == "succeeded"
    shop.sync(endpoint="http://h1:3100")
    assert kinds(shop) == [], "nothing new"


def test_a_failed_instance_is_replaced_after_a_while(shop: Shop) -> None:
    shop.host()
    (first,) = shop.deploy().instances
    assert shop.sync(status="failed", error="broke").wanted == ()
    assert shop.pass_time(999).lost == 0
    assert shop.service().instances == ()
    shop.pass_time(1)
    assert statuses(shop) == [PLACED]
    assert shop.sync(only=[first.id]).stop == (first.id,), "the one that failed is not wanted any more"


def test_an_instance_that_is_to_end_is_told_so_until_it_has(shop: Shop) -> None:
    shop.host()
    shop.deploy()
    shop.sync()
    shop.ask(cmd.StopService("web"))
    told = shop.sync()
    assert [instance.status for _, instance in told.wanted] == [DRAINING]
    assert told.stop == ()
    assert shop.sync(status="ended").wanted == ()


def test_what_nobody_wants_is_to_be_stopped_unless_it_has_ended_anyway(shop: Shop) -> None:
    shop.host(), shop.host("h2")
    strange = f"ins_{HOME}-0000-4000-8000-000000000001"
    assert shop.sync(only=[strange]).stop == (strange,)
    assert shop.sync("h1", "ended", only=[strange]).stop == ()
    (instance,) = shop.deploy().instances
    assert shop.sync("h2", only=[instance.id]).stop == (instance.id,), "it is another host's"
    assert statuses(shop) == [PLACED]


def test_a_host_that_syncs_keeps_all_its_instances(shop: Shop) -> None:
    shop.host()
    shop.deploy(replicas=2)
    for _ in range(5):
        assert shop.pass_time(LEASE - 1).lost == 0
        shop.sync(only=())
    assert shop.pass_time(LEASE - 1).lost == 0
    assert shop.pass_time(1).lost == 2


def test_a_host_that_is_not_heard_of_loses_its_instances_to_another(shop: Shop) -> None:
    shop.host("h1")
    (first,) = shop.deploy().instances
    shop.sync("h1")
    shop.now += LEASE - 1
    shop.host("h2")
    assert shop.pass_time(1).lost == 1
    assert kinds(shop) == ["InstanceEnded", "InstancePlaced"]
    assert [instance.host_id for instance in shop.service().instances] == ["h2"]
    assert shop.sync("h1", only=[first.id]).stop == (first.id,)


def test_a_sync_counts_as_a_sign_of_life(shop: Shop) -> None:
    shop.host()
    shop.now += 20_000
    shop.sync(only=())
    assert shop.ask(cmd.FindHost("h1")).online


def test_an_unknown_host_is_refused(shop: Shop) -> None:
    shop.deploy()
    for command in (cmd.SyncServices("h1"), cmd.ClaimService("h1"), cmd.ReportService("web", "h1", "running")):
        with pytest.raises(UnknownHost, match="unknown host: h1"):
            shop.ask(command)


def test_other_owners_are_named_and_their_instances_left_alone(shops: Shops) -> None:
    shops.deploy("mine")
    instance, strange = theirs(shops), f"ins_{THIRD}-0000-4000-8000-000000000001"
    told = shops.sync(only=[instance, strange, "garbage", "ins_"])
    assert [service.name for service, _ in told.wanted] == ["mine"]
    assert (told.stop, told.logs, told.owners) == ((), (HOME,), (THIRD, LARGE))
    assert told.digest == shops.books.services_digest("h1")
    shops.also_own(LARGE)
    told = shops.sync(only=[instance])
    assert ([service.name for service, _ in told.wanted], told.owners) == (["mine", "theirs"], ())
    assert told.logs == (HOME, LARGE)
    assert shops.turns.joint, "the answer waits for both logs"


def test_who_owns_nothing_says_who_is_to_be_asked(shops: Shops) -> None:
    shops.deploy()
    shops.queue.disown(HOME)
    told = shops.sync()
    assert (told.wanted, told.logs, told.owners) == ((), (), (HOME,))
    assert shops.turns.free


def test_what_was_said_in_a_turn_that_is_not_committed_was_not_said(shop: Shop) -> None:
    shop.host()
    before = shop.deploy()
    leases = dict(shop.book.renewed)
    for status in ("running", "failed", "ended"):
        shop.sync(status=status)
        shop.turn.take_back()
        assert shop.service() == before
        assert shop.book.renewed == leases


def test_while_the_coordinator_slept_no_lease_went_on(shop: Shop) -> None:
    shop.host()
    shop.deploy()
    shop.sync()
    shop.now += MINUTE
    assert shop.ask(cmd.Reap(slept_ms=MINUTE - LEASE + 1)).lost == 0
    shop.now += LEASE
    assert shop.ask(cmd.Reap(slept_ms=DAY)).lost == 0
    shop.now += LEASE
    assert shop.ask(cmd.Reap()).lost == 1


# Hosts that ask for one service after the other


def test_such_a_host_is_given_each_service_once_and_then_each_in_turn(shop: Shop) -> None:
    shop.host(takes=None)
    for name in ("one", "two", "three"):
        shop.now += 1
        shop.deploy(name)
    taken = []
    for _ in range(9):
        shop.now += 1
        taken.append(claimed(shop))
    assert taken == ["one", "two", "three"] * 3
    assert statuses(shop) == [STARTING] * 3


def test_a_new_service_goes_before_those_that_are_there(shop: Shop) -> None:
    shop.host(takes=None)
    shop.deploy("one")
    assert [claimed(shop), claimed(shop)] == ["one", "one"]
    shop.deploy("two")
    assert claimed(shop) == "two"


def test_a_host_without_a_service_is_given_none(shop: Shop) -> None:
    shop.host(takes=None)
    answer = shop.ask(cmd.ClaimService("h1"))
    assert (answer.service, answer.instance_id) == (None, None)


def test_such_a_host_reports_how_its_instance_is(shop: Shop) -> None:
    shop.host(takes=None)
    service = shop.deploy()
    (instance,) = report(shop, status="pending").service.instances
    assert instance.status == STARTING
    (instance,) = report(shop, service.id, endpoint="http://h1:3100").service.instances
    assert (instance.status, instance.endpoint) == (RUNNING, "http://h1:3100")
    (instance,) = report(shop).service.instances
    assert instance.endpoint is None, "what is not said again is not so any more"
    assert report(shop, status="failed", error="exit 1").service.instances == ()


def test_a_claim_keeps_what_the_host_has_and_what_it_will_take_up(shop: Shop) -> None:
    shop.host(takes=None)
    for name in ("one", "two"):
        shop.deploy(name)
    for _ in range(4):
        assert shop.pass_time(LEASE - 1).lost == 0
        claimed(shop)
    assert shop.pass_time(LEASE).lost == 2


def test_what_such_a_host_never_takes_up_is_placed_anew(shop: Shop) -> None:
    shop.host(takes=None)
    shop.deploy()
    shop.now += LEASE - 1
    shop.host("h2", None)
    assert shop.pass_time(1).lost == 1
    (ended,) = [event for event in shop.turn.events if isinstance(event, ev.InstanceEnded)]
    assert ended.reason == "unclaimed"
    assert [instance.host_id for instance in shop.service().instances] == ["h2"]


def test_a_report_keeps_its_own_instance(shop: Shop) -> None:
    shop.host(takes=None)
    shop.deploy("one"), shop.deploy("two")
    shop.now += LEASE - 1
    report(shop, "one")
    assert shop.pass_time(1).lost == 1
    assert [name for name in ("one", "two") if RUNNING in {one.status for one in shop.service(name).instances}] == ["one"]


def test_a_report_about_what_the_host_does_not_have_is_refused(shop: Shop) -> None:
    shop.host("h1", None), shop.host("h2", None)
    shop.deploy()
    with pytest.raises(NotAssigned, match="service web is not assigned to host h2"):
        report(shop, host_id="h2")
    with pytest.raises(UnknownService, match="unknown service: none"):
        report(shop, "none")


def test_such_a_host_is_not_waited_for_when_its_instance_is_to_end(shop: Shop) -> None:
    shop.host(takes=None)
    shop.deploy()
    report(shop)
    assert shop.ask(cmd.StopService("web")).service.instances == ()
    assert claimed(shop) is None
    with pytest.raises(NotAssigned):
        report(shop)


def test_claims_and_reports_may_be_repeated(shop: Shop) -> None:
    shop.host(takes=None)
    service = shop.deploy()
    claim = cmd.ClaimService("h1", keyed=cmd.Keyed("/v1/hosts/h1/services/claim", "k", "d"))
    told = cmd.ReportService("web", "h1", "failed", keyed=cmd.Keyed("/v1/services/web/report", "k", "d"))
    for command in (claim, told):
        assert shop.ask(command).service.id == service.id
        assert shop.ask(command).subjects == (service.id,)
        assert kinds(shop) == []
    nothing = cmd.ClaimService("h1", keyed=cmd.Keyed("/v1/hosts/h1/services/claim", "other", "d"))
    assert shop.ask(nothing).service is None
    assert shop.ask(nothing) == Repeated((), shop.state.end)


def test_a_service_of_another_log_is_claimed_from_its_owner(shops: Shops) -> None:
    theirs(shops)
    assert shops.refusal(cmd.ClaimService("h1")).log == LARGE
    assert shops.ask(cmd.ClaimService("h1", forwarded=True)).service is None
    shops.deploy("mine")
    assert claimed(shops) == "mine"


def test_a_report_about_another_log_goes_to_its_owner(shops: Shops) -> None:
    theirs(shops)
    assert shops.refusal(cmd.ReportService("theirs", "h1", "running")).log == LARGE
    assert OTHER not in {book.log for book in shops.books.all}
