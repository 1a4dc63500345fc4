"""What may be asked about services, and what follows from it."""

from dataclasses import replace

import pytest

from skyclaw import commands as cmd
from skyclaw import events as ev
from skyclaw.answers import Claimed, Reaped, Repeated
from skyclaw.errors import IdempotencyConflict, NotOwner, Refused, SkyclawError, UnknownService
from skyclaw.scheduling.snapshots import Picture, restore
from skyclaw.services.service import DRAINING, PLACED, RUNNING, Service
from tests.scheduling.making import DAY, HOME, MINUTE, Shop, folded, kinds
from tests.scheduling.observing import observed
from tests.scheduling.test_queue_logs import OTHER, Shops

SMALL, LARGE = "00000001", "ffffffff"  # tags before and after that of the shop's own log


def places(service: Service) -> list[tuple[str, str]]:
    """Which hosts its instances are on, and how they are."""
    return sorted((instance.host_id, instance.status) for instance in service.instances)


def deployed(log: str, name: str = "web", number: int = 1, **fields: object) -> ev.ServiceDeployed:
    """A service of another log."""
    values: dict[str, object] = {"replicas": 1, "required": ("service-host",), **fields}
    return ev.ServiceDeployed(f"svc_{log}-0000-4000-8000-{number:012}", 1, name, "serve", (), **values)  # type: ignore[arg-type]


# One log


def test_a_new_service_is_placed_at_once(shop: Shop) -> None:
    shop.host("h1"), shop.host("h2")
    service = shop.deploy(replicas=2)
    assert kinds(shop) == ["ServiceDeployed", "InstancePlaced", "InstancePlaced"]
    assert service.id.startswith(f"svc_{HOME}-")
    assert all(instance.id.startswith(f"ins_{HOME}-") for instance in service.instances)
    assert places(service) == [("h1", PLACED), ("h2", PLACED)]
    assert shop.service() == shop.service(service.id) == service
    assert shop.ask(cmd.ListServices()).services == (service,)
    assert shop.ask(cmd.Survey()).services == (service,)


def test_without_a_host_a_service_waits_for_one(shop: Shop) -> None:
    shop.deploy()
    shop.host()
    assert places(shop.service()) == []
    assert shop.pass_time(1000).lost == 0
    assert places(shop.service()) == [("h1", PLACED)]


@pytest.mark.parametrize(
    ("takes", "fits"), [("2", 2), ("0", 0), ("many", 0), ("9" * 30, 0), (None, 1)], ids=["two", "none", "a word", "too long", "TypeScript"]
)
def test_a_host_takes_as_many_instances_as_its_label_says(shop: Shop, takes: str | None, fits: int) -> None:
    shop.host(takes=takes)
    assert len(shop.deploy(replicas=5).instances) == fits


def test_instances_are_counted_over_all_services(shop: Shop) -> None:
    shop.host("h1", "3")
    assert len(shop.deploy("one", replicas=2).instances) == 2
    assert len(shop.deploy("two", replicas=2).instances) == 1


def test_services_that_waited_for_a_host_share_its_room(shop: Shop) -> None:
    shop.deploy("one"), shop.deploy("two"), shop.deploy("three")
    shop.host("h1", "2")
    shop.pass_time(1000)
    assert [len(shop.service(name).instances) for name in ("one", "two", "three")] == [1, 1, 0]


def test_a_host_that_may_not_take_work_gets_no_instance(shop: Shop) -> None:
    shop.host("h1"), shop.host("h2", capabilities=()), shop.host("h3")
    shop.ask(cmd.ChangeMode("h1", "paused"))
    shop.now += 15_001
    shop.ask(cmd.Heartbeat("h1")), shop.ask(cmd.Heartbeat("h2"))
    assert places(shop.deploy()) == []
    fits = {fit.host_id: (fit.can, fit.reason) for fit in shop.ask(cmd.ExplainService("web")).hosts}
    assert fits == {"h1": (False, "is paused"), "h2": (False, "lacks service-host"), "h3": (False, "is not heard of")}


def test_a_host_in_quarantine_gets_no_instance(shop: Shop) -> None:
    shop.host(parallel=5)
    for number in range(5):
        shop.leased(f"j{number}")
    shop.pass_time(MINUTE)
    shop.ask(cmd.Heartbeat("h1"))
    assert places(shop.deploy()) == []


def test_a_name_that_is_known_becomes_another_revision(shop: Shop) -> None:
    shop.host()
    first = shop.deploy()
    shop.sync()
    second = shop.deploy(command="serve better")
    assert (second.id, second.target, len(second.instances)) == (first.id, 2, 2)
    assert shop.deploy(name="web", service_id=first.id).target == 3
    assert shop.deploy("another").id != first.id


def test_a_service_is_scaled_stopped_restarted_and_rolled_back(shop: Shop) -> None:
    shop.host()
    shop.deploy()
    assert len(shop.ask(cmd.Scale("web", 3)).service.instances) == 3
    shop.sync()
    assert {instance.status for instance in shop.ask(cmd.StopService("web")).service.instances} == {DRAINING}
    shop.sync(status="ended")
    assert shop.service().instances == ()
    assert (shop.ask(cmd.RestartService("web")).service.target, shop.sync().wanted[0][1].revision) == (2, 2)
    shop.deploy(command="other")
    shop.sync(), shop.sync()
    assert shop.ask(cmd.Rollback("web")).service.target == 4
    assert shop.service().present.asked.command == "serve"


def test_a_removed_service_is_forgotten_with_its_last_instance(shop: Shop) -> None:
    shop.host()
    service = shop.deploy()
    shop.sync()
    assert shop.ask(cmd.RemoveService("web")).service.removed
    assert shop.service().removed
    assert shop.sync(status="ended").wanted == ()
    assert kinds(shop)[-1] == "ServiceForgotten"
    for asked in ("web", service.id):
        with pytest.raises(UnknownService, match=f"unknown service: {asked}"):
            shop.service(asked)


def test_a_service_without_instances_is_removed_at_once_and_shown_as_it_was_last(shop: Shop) -> None:
    shop.deploy()
    assert shop.ask(cmd.RemoveService("web")).service.removed
    assert (kinds(shop), shop.state.services) == (["ServiceRemoved", "ServiceForgotten"], {})


REFUSALS: list[tuple[cmd.Command, type[SkyclawError]]] = [
    (cmd.Deploy("new", "serve", service_id=f"svc_{HOME}-0000-4000-8000-000000000001"), UnknownService),
    (cmd.Deploy("other", "serve", service_id="web"), Refused),
    (cmd.Scale("none", 2), UnknownService),
    (cmd.StopService("none"), UnknownService),
    (cmd.RestartService("none"), UnknownService),
    (cmd.Rollback("none"), UnknownService),
    (cmd.RemoveService("none"), UnknownService),
    (cmd.FindService("none"), UnknownService),
    (cmd.ExplainService("none"), UnknownService),
    (cmd.Rollback("web"), Refused),
    (cmd.Rollback("web", 7), Refused),
]


@pytest.mark.parametrize(("command", "refusal"), REFUSALS, ids=lambda value: getattr(value, "__name__", None) or type(value).__name__)
def test_a_refusal_has_no_effect(shop: Shop, command: cmd.Command, refusal: type[SkyclawError]) -> None:
    shop.deploy(), shop.deploy("other")
    with pytest.raises(refusal) as refused:
        shop.ask(command)
    assert type(refused.value) is refusal
    assert kinds(shop) == []


def test_a_service_may_be_given_another_name_that_is_free(shop: Shop) -> None:
    service = shop.deploy()
    assert shop.deploy("site", service_id=service.id).id == service.id
    assert shop.service("site").id == service.id


def test_a_service_says_why_it_is_as_it_is(shop: Shop) -> None:
    shop.host()
    shop.deploy(required=("gpu",))
    explained = shop.ask(cmd.ExplainService("web"))
    assert (explained.service.name, explained.reasons) == ("web", ("0 of 1 instances are running", "no host has gpu"))
    assert [(fit.host_id, fit.name, fit.can, fit.reason) for fit in explained.hosts] == [("h1", "H1", False, "lacks gpu")]


# Keys


def test_a_repeated_request_has_no_effect_and_the_same_answer(shop: Shop) -> None:
    keyed = cmd.Keyed("/v1/services", "k", "d")
    service = shop.ask(cmd.Deploy("web", "serve", keyed=keyed)).service
    assert kinds(shop) == ["ServiceDeployed", "RequestAnswered"]
    assert shop.ask(cmd.Deploy("web", "serve", keyed=keyed)) == Repeated((service.id,), 2)
    assert (kinds(shop), shop.service()) == ([], service)
    with pytest.raises(IdempotencyConflict):
        shop.ask(cmd.Deploy("web", "else", keyed=cmd.Keyed("/v1/services", "k", "another")))


@pytest.mark.parametrize(
    "command", [cmd.Deploy("web", "serve"), cmd.RestartService("web"), cmd.Rollback("web", 1)], ids=["deploy", "restart", "roll back"]
)
def test_a_new_revision_cannot_be_kept_without_the_key_of_its_request(shop: Shop, command: cmd.Command) -> None:
    keyed = cmd.Keyed("/v1/services", "k", "d")
    shop.host()
    shop.deploy(), shop.deploy()
    service = shop.ask(replace(command, keyed=keyed)).service
    [made] = [event for event in shop.turn.events if isinstance(event, ev.ServiceDeployed)]
    found = folded(made).keys.find(keyed)
    assert found is not None
    assert found.subjects == (service.id,)
    assert service.newest.asked.key is None


def test_the_subject_of_every_change_is_the_service(shop: Shop) -> None:
    shop.host()
    shop.host("h2", None)
    service = shop.deploy(replicas=2)
    for number, command in enumerate(
        [cmd.Scale("web", 3), cmd.StopService("web"), cmd.RestartService(service.id), cmd.RemoveService("web")]
    ):
        keyed = cmd.Keyed(f"/v1/services/web/{number}", "k", "d")
        for again in (False, True):
            answer = shop.ask(type(command)(**{name: getattr(command, name) for name in command.__dataclass_fields__} | {"keyed": keyed}))
            assert isinstance(answer, Repeated) is again
        assert answer.subjects == (service.id,)


def test_the_removal_of_a_forgotten_service_may_be_repeated(shop: Shop) -> None:
    service = shop.deploy()
    command = cmd.RemoveService("web", keyed=cmd.Keyed("/v1/services/web", "k", "d"))
    shop.ask(command)
    assert kinds(shop) == ["ServiceRemoved", "ServiceForgotten", "RequestAnswered"]
    assert shop.ask(command).subjects == (service.id,)


# What is taken back, and what is kept


def test_a_turn_that_is_not_committed_leaves_no_trace(shop: Shop) -> None:
    shop.host()
    before = shop.deploy(replicas=2)
    shop.sync()
    shown, leases, placed = shop.service(), dict(shop.book.renewed), dict(shop.state.placed["h1"])
    for command in (cmd.Deploy("web", "other"), cmd.Scale("web", 4), cmd.Deploy("new", "serve", replicas=3)):
        shop.ask(command)
        assert len(shop.book.renewed) > len(leases)
        shop.turn.take_back()
        assert (shop.book.renewed, shop.state.placed["h1"], list(shop.state.services)) == (leases, placed, [before.id])
        assert shop.service() == shown
    shop.ask(cmd.RemoveService("web"))
    removal = shop.turn
    shop.sync(status="ended")
    assert (shop.book.renewed, shop.state.placed, shop.state.services) == ({}, {}, {})
    shop.turn.take_back(), removal.take_back()
    assert (shop.book.renewed, shop.state.placed["h1"], shop.service()) == (leases, placed, shown)


def test_a_restart_from_a_snapshot_has_every_service(shop: Shop) -> None:
    shop.host(), shop.host("h2")
    shop.deploy(args=("-v",), env=(("A", "1"),), replicas=2)
    shop.sync("h1"), shop.sync("h2", "failed", error="broke")
    shop.deploy("other", health_path="/")
    shop.sync("h1", "ended")
    assert any(service.remnants for service in shop.state.services.values())
    again = restore(list(Picture(shop.state).parts()), shop.state.end)
    assert again.services == shop.state.services
    assert [hash(service) for service in again.services.values()] == [hash(service) for service in shop.state.services.values()]
    assert again.placed == shop.state.placed
    assert observed(again) == observed(shop.state)


def test_a_snapshot_from_before_there_were_services_is_read(shop: Shop) -> None:
    shop.host()
    parts = list(Picture(shop.state).parts())
    assert parts[0] == '["version",[2]]'
    assert restore(['["version",[1]]', *parts[1:]], shop.state.end).hosts == shop.state.hosts


# Other logs


@pytest.fixture
def shops() -> Shops:
    shops = Shops()
    shops.learn(ev.OwnershipTaken("other", "founded"), log=LARGE)
    return shops


def test_a_new_service_belongs_to_the_log_with_the_smallest_tag(shops: Shops) -> None:
    assert shops.deploy("one").id.startswith(f"svc_{HOME}-")
    shops.learn(ev.OwnershipTaken("other", "founded"), log=SMALL)
    assert shops.refusal(cmd.Deploy("two", "serve")).log == SMALL
    assert shops.deploy("one").target == 2, "what is known stays where it is"
    shops.also_own(SMALL)
    assert shops.deploy("two").id.startswith(f"svc_{SMALL}-")


def test_a_log_that_was_never_founded_gets_no_service() -> None:
    shops = Shops()
    shops.books.book(SMALL)
    assert shops.deploy().id.startswith(f"svc_{HOME}-")


def test_a_name_that_another_log_has_is_asked_of_its_owner(shops: Shops) -> None:
    theirs = deployed(LARGE)
    shops.learn(theirs, log=LARGE)
    commands = [cmd.Deploy("web", "serve"), cmd.Deploy("site", "serve", service_id=theirs.service_id), cmd.Scale("web", 2)]
    commands += [cmd.StopService("web"), cmd.RestartService(theirs.service_id), cmd.Rollback("web"), cmd.RemoveService("web")]
    commands += [cmd.Deploy("web", "serve", keyed=cmd.Keyed("s", "k", "d")), cmd.Scale("web", 2, keyed=cmd.Keyed("s", "k", "d"))]
    for command in commands:
        assert shops.refusal(command).log == LARGE


def test_a_repetition_is_answered_from_the_copy(shops: Shops) -> None:
    theirs = deployed(LARGE)
    shops.learn(theirs, ev.RequestAnswered("s", "k", "d", (theirs.service_id,)), log=LARGE)
    for command in (cmd.Deploy("web", "serve", keyed=cmd.Keyed("s", "k", "d")), cmd.Scale("web", 2, keyed=cmd.Keyed("s", "k", "d"))):
        assert shops.ask(command) == Repeated((theirs.service_id,), 3)
        assert shops.turns.free


def test_questions_are_answered_from_the_copy_at_once(shops: Shops) -> None:
    theirs = deployed(LARGE)
    shops.learn(theirs, log=LARGE)
    for named in ("web", theirs.service_id):
        assert shops.service(named).id == theirs.service_id
        assert shops.turns.free
    assert shops.ask(cmd.ExplainService("web")).service.id == theirs.service_id
    assert [service.id for service in shops.ask(cmd.ListServices()).services] == [theirs.service_id]


def test_what_the_copy_does_not_know_is_asked_of_whoever_may(shops: Shops) -> None:
    theirs = deployed(LARGE).service_id
    assert shops.refusal(cmd.FindService(theirs)).log == LARGE
    with pytest.raises(UnknownService):
        shops.service("web")
    shops.learn(ev.OwnershipTaken("other", "founded"), log=SMALL)
    assert shops.refusal(cmd.FindService("web")).log == SMALL


def test_the_oldest_of_two_services_with_one_name_owns_it(shops: Shops) -> None:
    mine = shops.deploy()
    shops.now -= 1
    theirs = deployed(LARGE)
    shops.learn(theirs, log=LARGE)
    assert shops.service("web").id == theirs.service_id
    assert shops.refusal(cmd.Scale("web", 2)).log == LARGE
    assert shops.ask(cmd.Scale(mine.id, 2)).service.replicas == 2
    assert shops.deploy("web", service_id=mine.id).target == 2
    assert [service.id for service in shops.ask(cmd.ListServices()).services] == [theirs.service_id, mine.id]


def test_of_two_that_are_equally_old_the_one_with_the_smaller_id_owns_the_name(shops: Shops) -> None:
    shops.deploy()
    shops.learn(deployed(LARGE), log=LARGE)
    assert shops.service("web").id.startswith(f"svc_{HOME}-")
    shops.learn(deployed(SMALL), log=SMALL)
    assert shops.service("web").id.startswith(f"svc_{SMALL}-")


def test_instances_are_counted_over_all_logs(shops: Shops) -> None:
    shops.host("h1", "2"), shops.host("h2", "2")
    theirs = deployed(LARGE, "theirs")
    placed = [ev.InstancePlaced(theirs.service_id, f"ins_{LARGE}-{number}", 1, "h1") for number in range(2)]
    shops.learn(theirs, *placed, log=LARGE)
    assert [host_id for host_id, _ in places(shops.deploy(replicas=3))] == ["h2", "h2"]


def test_services_of_other_logs_are_left_to_their_owners(shops: Shops) -> None:
    shops.host()
    shops.learn(deployed(LARGE), log=LARGE)
    shops.pass_time(DAY)
    assert all(not turn.events or turn.book.log == HOME for turn in shops.turns)
    assert shops.service().instances == ()


def test_after_a_takeover_every_instance_has_its_full_lease_again(shops: Shops) -> None:
    shops.host()
    theirs = deployed(LARGE)
    shops.learn(theirs, ev.InstancePlaced(theirs.service_id, f"ins_{LARGE}-1", 1, "h1"), log=LARGE)
    shops.now += DAY
    shops.queue.own(LARGE, "0.2.n", shops.now)
    assert shops.pass_time(14_999).lost == 0
    assert places(shops.service()) == [("h1", PLACED)]
    shops.host()
    assert shops.pass_time(1).lost == 1
    assert places(shops.service()) == [("h1", PLACED)]
    assert shops.service().instances[0].id != f"ins_{LARGE}-1"


def test_an_owner_that_was_deposed_keeps_no_leases(shops: Shops) -> None:
    shops.host()
    shops.deploy()
    shops.queue.disown(HOME)
    assert shops.book.renewed == {}


# Those who wait


def test_a_placement_sends_the_hosts_claim_away_at_once(shop: Shop) -> None:
    shop.host()
    shop.park("claim")
    shop.deploy()
    answer = shop.others()["claim"]
    assert answer == Claimed((), services=shop.books.services_digest("h1"))
    assert answer.services


def test_a_drain_and_an_end_do_so_too(shop: Shop) -> None:
    shop.host(), shop.host("h2")
    shop.deploy()
    shop.sync()
    for command in (cmd.StopService("web"), cmd.Reap()):
        shop.park("claim")
        shop.now += 15_000 if isinstance(command, cmd.Reap) else 0
        shop.ask(command)
        assert "claim" in shop.others()


def test_a_report_that_changes_nothing_for_a_host_lets_its_claim_wait(shop: Shop) -> None:
    shop.host()
    shop.deploy()
    shop.park("claim")
    shop.sync()
    assert shop.service().instances[0].status == RUNNING
    assert shop.others() == {}


def test_news_of_another_log_sends_the_hosts_claim_away(shops: Shops) -> None:
    shops.host()
    theirs, instance = deployed(LARGE), f"ins_{LARGE}-1"
    shops.learn(theirs, log=LARGE)
    for event in (
        ev.InstancePlaced(theirs.service_id, instance, 1, "h1"),
        ev.InstanceDraining(theirs.service_id, instance, "stopped"),
        ev.InstanceEnded(theirs.service_id, instance, "drained"),
    ):
        shops.park("claim")
        assert isinstance(shops.learn(event, log=LARGE)["claim"], Claimed)
    assert OTHER not in {book.log for book in shops.books.all}


def test_a_refused_command_sends_nobody_away(shop: Shop) -> None:
    shop.host()
    shop.park("claim")
    with pytest.raises(UnknownService):
        shop.ask(cmd.Scale("none", 2))
    assert shop.others() == {}


def test_heartbeats_and_claims_say_when_something_else_is_wanted_of_a_host(shop: Shop) -> None:
    shop.host()

    def said() -> set[str]:
        return {shop.ask(cmd.Heartbeat("h1")).services, shop.ask(cmd.Claim("h1")).services, shop.sync(only=()).digest}

    digests = [said()]
    assert digests == [{""}]
    shop.deploy()
    digests.append(said())
    shop.sync()
    assert said() == digests[-1], "how an instance is does not matter"
    shop.ask(cmd.Scale("web", 2))
    digests.append(said())
    shop.ask(cmd.StopService("web"))
    digests.append(said())
    assert all(len(digest) == 1 for digest in digests)
    assert len(set.union(*digests)) == 4
    assert all(len(one) == 8 for one in set.union(*digests) - {""})
    shop.sync(status="ended")
    assert said() == {""}


def test_a_host_is_not_forgotten_while_it_has_instances(shop: Shop) -> None:
    shop.host()
    shop.deploy()
    shop.book.renewed = dict.fromkeys(shop.book.renewed, shop.now + DAY)  # as if its lease were that long
    assert shop.pass_time(DAY + 1).forgotten == 0
    assert shop.pass_time(DAY) == Reaped(lost=1, forgotten=1)


def test_without_an_owner_nothing_is_decided(shops: Shops) -> None:
    shops.queue.disown(HOME)
    with pytest.raises(NotOwner):
        shops.ask(cmd.Deploy("web", "serve"))
