"""The rules of the protocol, one by one, with two or three nodes."""

from dataclasses import replace

import pytest

from skyclaw.cluster.configuration import voters_of
from skyclaw.cluster.messages import Ack, Append, Ask, Campaign, Grant
from skyclaw.cluster.replica import Broken
from skyclaw.errors import LostContact, NotOwner, TooFewCopies
from skyclaw.records import GENESIS_EPOCH, Epoch
from tests.cluster.lab import LOG, PACE, Lab, job, propose, record, voting


def owned_trio() -> tuple[Lab, str, str, str]:
    """Three voters, two copies: the owner and the two others."""
    lab = Lab("abc", "abc", 2)
    owner = lab.wait_for_owner()
    first, second = sorted(set("abc") - {owner})
    return lab, owner, first, second


# Founding and writing


def test_a_founder_owns_its_log_at_once_and_alone() -> None:
    lab = Lab("a")
    lab.do("a", lambda node, now: node.found(LOG, now))
    lab.do("a", lambda node, now: node.tick(now))
    assert lab.nodes["a"].owns(LOG)
    lab.propose("a", "job")
    assert lab.commit("a") == lab.nodes["a"].replica(LOG).end == 3


def test_a_restarted_founder_goes_on_at_once_in_a_new_epoch() -> None:
    lab = Lab("a", "a", 1)
    lab.do("a", lambda node, now: node.tick(now))
    before = lab.nodes["a"].epoch(LOG)
    lab.restart("a")
    lab.do("a", lambda node, now: node.tick(now))
    assert Epoch.parse(before) < Epoch.parse(lab.nodes["a"].epoch(LOG))


def test_a_write_is_committed_when_two_of_three_have_it() -> None:
    lab, owner, first, second = owned_trio()
    lab.propose(owner, "job")
    end = lab.nodes[owner].replica(LOG).end
    assert lab.commit(owner) == end - 1
    lab.cut = {second}
    lab.deliver()
    assert lab.commit(owner) == lab.commit(first) == end
    assert lab.commit(second) == end - 1


def test_the_owners_copy_counts_only_once_it_is_durable() -> None:
    lab = Lab("a", "a", 1)
    lab.wait_for_owner()
    propose(lab.nodes["a"], "job", lab.now)
    effects = lab.nodes["a"].effects()
    assert [message for to, message in effects.sends if to == "a"]
    assert lab.commit("a") < lab.nodes["a"].replica(LOG).end
    lab.store("a", effects)
    for _, message in effects.sends:
        lab.nodes["a"].receive("a", message, lab.now)
    assert lab.commit("a") == lab.nodes["a"].replica(LOG).end


def test_an_owner_cut_off_refuses_and_writes_nothing() -> None:
    lab, owner, _, _ = owned_trio()
    lab.cut = {owner}
    lab.wait(60, owner)
    with pytest.raises(LostContact):
        propose(lab.nodes[owner], "job", lab.now)
    assert not lab.nodes[owner].effects().writes


def test_a_log_with_too_few_copies_takes_no_writes() -> None:
    lab = Lab("ab", "a", 1, min_copies=2)
    lab.wait_for_owner()
    with pytest.raises(TooFewCopies):
        propose(lab.nodes["a"], "job", lab.now)
    lab.do("a", lambda node, now: node.reconfigure(LOG, voting("ab", 2), now))
    with pytest.raises((TooFewCopies, LostContact)):
        propose(lab.nodes["a"], "job", lab.now)  # both configurations are in force, and one is content with one copy
    lab.wait(30)
    lab.propose("a", "job")
    lab.deliver()
    assert lab.texts("b") == ["job"]


def test_nobody_but_the_owner_under_its_epoch_may_write() -> None:
    lab, owner, first, _ = owned_trio()
    replica = lab.nodes[owner].replica(LOG)
    one = record(replica.hash, replica.end + 1, "0.0.x", job("job"))
    for name, epoch in ((first, lab.nodes[owner].epoch(LOG)), (owner, "0.0.x")):
        with pytest.raises(NotOwner):
            lab.nodes[name].propose(LOG, epoch, [one], lab.now)


# Promises and grants


def test_a_voter_obeys_no_epoch_below_its_promise() -> None:
    lab, owner, first, _ = owned_trio()
    replica = lab.nodes[first].replica(LOG)
    lab.do(first, lambda node, now: node.receive("z", Ask(LOG, Epoch(0, 9, "z"), (Epoch(0, 8, "z"), 99)), now))
    assert replica.promised == Epoch(0, 9, "z")
    one = record(replica.hash, replica.end + 1, lab.nodes[owner].epoch(LOG), job("late"))
    append = Append(LOG, lab.nodes[owner].replica(LOG).promised, replica.end, replica.last[0], (one,), replica.commit)
    effects = lab.do(first, lambda node, now: node.receive(owner, append, now))
    assert not effects.writes
    assert [m.ok for _, m in effects.sends if isinstance(m, Ack)] == [False]


def test_a_promise_is_durable_with_the_grant() -> None:
    lab, _, first, _ = owned_trio()
    effects = lab.do(first, lambda node, now: node.receive("z", Ask(LOG, Epoch(0, 9, "z"), (Epoch(0, 8, "z"), 99)), now))
    assert effects.promises == {LOG: Epoch(0, 9, "z")}
    lab.restart(first)
    assert lab.nodes[first].replica(LOG).promised == Epoch(0, 9, "z")


@pytest.mark.parametrize(("epoch", "behind"), [(1, 0), (0, 1)])
def test_a_copy_that_is_behind_gets_no_grant(epoch: int, behind: int) -> None:
    lab, _, first, _ = owned_trio()
    last, end = lab.nodes[first].replica(LOG).last
    claimed = (Epoch(0, last.counter - epoch, "z"), end + 9) if epoch else (last, end - behind)
    effects = lab.do(first, lambda node, now: node.receive("z", Ask(LOG, Epoch(0, 9, "z"), claimed), now))
    assert [m.ok for _, m in effects.sends if isinstance(m, Grant)] == [False]


def test_who_hears_the_owner_does_not_want_another_and_a_poll_binds_nobody() -> None:
    lab, owner, first, second = owned_trio()
    poll = Ask(LOG, None, (Epoch(0, 9, "z"), 99))
    for name in (owner, first):
        effects = lab.do(name, lambda node, now: node.receive("z", poll, now))
        assert [m.ok for _, m in effects.sends if isinstance(m, Grant)] == [False]
    lab.cut = {first}
    lab.wait(60, first)
    lab.mail.clear()
    effects = lab.do(first, lambda node, now: node.receive("z", poll, now))
    assert [m.ok for _, m in effects.sends if isinstance(m, Grant)] == [True]
    assert not effects.promises
    assert second


def test_a_node_that_flaps_does_not_disturb_the_owner() -> None:
    lab, owner, first, _ = owned_trio()
    epoch = lab.nodes[owner].epoch(LOG)
    for _ in range(4):
        lab.deaf = {first}
        lab.wait(150)
        lab.deaf = set()
        lab.restart(first)
        lab.wait(30)
    assert lab.nodes[owner].epoch(LOG) == epoch


# Taking over


def test_a_takeover_keeps_what_was_committed_and_fences_the_old_owner() -> None:
    lab, owner, first, second = owned_trio()
    lab.propose(owner, "kept")
    lab.deliver()
    lab.wait(15)
    lab.cut = {owner}
    lab.propose(owner, "dropped")
    new = lab.wait_for_owner({first, second})
    lab.propose(new, "next")
    lab.deliver()
    assert lab.texts(new) == ["kept", "next"]
    lab.cut = set()
    lab.wait(60)
    assert not lab.nodes[owner].owns(LOG)
    assert lab.texts(owner) == ["kept", "next"]
    assert any(LOG in effects.lost for effects in lab.seen[owner])


def test_a_failed_candidate_tries_again() -> None:
    lab = Lab("abc", "abc", 2)
    lab.cut = {"b", "c"}
    lab.wait(200, "a")
    lab.cut = set()
    assert lab.wait_for_owner()


def test_records_of_older_epochs_are_committed_only_underneath_an_own_one() -> None:
    lab = Lab("abc", "abc", 2, pace=replace(PACE, batch_records=1))
    owner = lab.wait_for_owner()
    first, second = sorted(set("abc") - {owner})
    lab.cut = {second}
    lab.propose(owner, "old")
    lab.deliver(lambda mail: isinstance(mail[2], Ack))
    old = lab.nodes[first].replica(LOG).end
    del lab.nodes[owner]
    lab.cut = set()
    while lab.texts(second) != ["old"]:
        lab.now += 5
        lab.do(first, lambda node, now: node.tick(now))
        lab.deliver(lambda mail: isinstance(mail[2], Append) and any(one.type == "OwnershipTaken" for one in mail[2].records))
    assert lab.nodes[first].owns(LOG)
    assert lab.texts(second) == ["old"]
    assert lab.commit(first) < old
    lab.wait(30)
    assert lab.commit(first) == lab.commit(second) == old + 1


def test_an_owner_without_its_voters_lets_go_and_owns_again_when_they_are_back() -> None:
    lab, owner, *_ = owned_trio()
    lab.cut = set("abc")
    lab.propose(owner, "alone")
    while lab.nodes[owner].owns(LOG):
        lab.now += 5
        effects = lab.do(owner, lambda node, now: node.tick(now))
    assert effects.lost == {LOG: lab.commit(owner)}
    assert lab.texts(owner) == ["alone"]
    lab.cut = set()
    lab.wait_for_owner()
    lab.wait(30)
    assert {lab.commit(node) for node in "abc"} == {lab.nodes[owner].replica(LOG).end}


# Following


def test_a_repetition_of_an_old_message_cuts_nothing() -> None:
    lab, owner, first, _ = owned_trio()
    lab.propose(owner, "one")
    early = [mail for mail in lab.mail if mail[1] == first]
    lab.deliver()
    lab.propose(owner, "two")
    lab.deliver()
    lab.mail = early
    lab.deliver()
    assert lab.texts(first) == ["one", "two"]


def test_a_forged_record_is_refused() -> None:
    lab, owner, first, _ = owned_trio()
    replica = lab.nodes[owner].replica(LOG)
    forged = record(bytes(32), replica.end + 1, replica.promised, job("forged"))
    append = Append(LOG, replica.promised, replica.end, replica.last[0], (forged,), replica.commit)
    with pytest.raises(Broken):
        lab.nodes[first].receive(owner, append, lab.now)
    assert not lab.nodes[first].effects().writes


def test_an_append_from_anybody_else_is_no_append() -> None:
    lab, owner, first, second = owned_trio()
    replica = lab.nodes[owner].replica(LOG)
    one = record(replica.hash, replica.end + 1, replica.promised, job("job"))
    append = Append(LOG, replica.promised, replica.end, replica.last[0], (one,), replica.commit)
    assert not lab.do(first, lambda node, now: node.receive(second, append, now)).writes


def test_what_was_not_delivered_is_sent_again() -> None:
    lab, owner, first, _ = owned_trio()
    lab.propose(owner, "job")
    lab.deliver(lambda mail: mail[1] == first)
    assert lab.texts(first) == []
    lab.do(owner, lambda node, _: node.undelivered(first))
    lab.wait(15)
    assert lab.texts(first) == ["job"]


def test_a_learner_gets_what_is_committed_and_promises_its_epoch() -> None:
    lab, owner, _, _ = owned_trio()
    for number in range(7):
        lab.propose(owner, f"job {number}")
        lab.deliver()
    lab.disks["d"], lab.seen["d"] = type(lab.disks["a"])(), []
    lab.restart("d")
    lab.propose(owner, "not committed")
    lab.mail.clear()
    lab.pull("d", owner)
    assert lab.texts("d") == [f"job {number}" for number in range(7)]
    assert lab.nodes["d"].replica(LOG).promised == lab.nodes[owner].replica(LOG).promised
    assert lab.nodes["d"].replica(LOG).owner.node == owner


# Changing voters


def test_voters_change_in_two_steps() -> None:
    lab = Lab("abc", "a", 1)
    lab.wait_for_owner()
    lab.pull("b", "a")
    lab.pull("c", "a")
    lab.do("a", lambda node, now: node.reconfigure(LOG, voting("abc", 2), now))
    assert len(lab.nodes["a"].replica(LOG).configuration) == 2
    assert not lab.nodes["a"].reconfigure(LOG, voting("ab", 2), lab.now)
    lab.wait(30)
    for name in "abc":
        assert lab.nodes[name].replica(LOG).configuration == (voting("abc", 2),)
    lab.propose("a", "job")
    lab.deliver()
    assert lab.commit("b") == lab.nodes["a"].replica(LOG).end


def test_an_owner_that_does_not_vote_any_more_lets_go() -> None:
    lab, owner, first, second = owned_trio()
    lab.do(owner, lambda node, now: node.reconfigure(LOG, voting(first + second, 2), now))
    assert lab.wait_for_owner({first, second}) != owner
    assert not lab.nodes[owner].owns(LOG)
    assert owner not in voters_of(lab.nodes[first].replica(LOG).configuration)


def test_a_lost_disk_is_a_new_voter() -> None:
    lab, owner, first, second = owned_trio()
    lab.propose(owner, "job")
    lab.deliver()
    del lab.nodes[first]
    lab.disks["d"], lab.seen["d"] = type(lab.disks["a"])(), []
    lab.restart("d")
    lab.pull("d", owner)
    lab.do(owner, lambda node, now: node.reconfigure(LOG, voting(owner + second + "d", 2), now))
    lab.wait(30)
    del lab.nodes[second]
    lab.propose(owner, "next")
    lab.deliver()
    assert lab.commit("d") >= lab.commit(owner) - 1
    assert lab.texts("d") == ["job", "next"]


# Handing over


def test_a_log_is_handed_over_to_a_level_voter_at_once() -> None:
    lab, owner, first, _ = owned_trio()
    lab.propose(owner, "job")
    lab.deliver()
    lab.do(owner, lambda node, now: node.transfer(LOG, first, now))
    with pytest.raises(LostContact):
        propose(lab.nodes[owner], "late", lab.now)
    lab.deliver()
    assert lab.nodes[first].owns(LOG)
    assert not lab.nodes[owner].owns(LOG)
    assert lab.texts(first) == ["job"]


def test_a_hand_over_that_fails_leaves_the_owner_at_work() -> None:
    lab, owner, first, _ = owned_trio()
    lab.cut = {first}
    lab.do(owner, lambda node, now: node.transfer(LOG, first, now))
    lab.wait(50)
    assert lab.nodes[owner].owns(LOG)
    lab.propose(owner, "job")


def test_an_invitation_that_comes_late_takes_nothing_over() -> None:
    lab, owner, first, second = owned_trio()
    lab.do(owner, lambda node, now: node.transfer(LOG, first, now))
    late = [mail for mail in lab.mail if isinstance(mail[2], Campaign)]
    lab.mail.clear()
    lab.cut = {first}
    lab.wait(50, owner + second)
    lab.propose(owner, "job")
    lab.deliver()
    lab.cut = set()
    assert late
    lab.mail = late
    lab.deliver()
    assert not lab.nodes[first].owns(LOG)
    assert lab.texts(lab.wait_for_owner()) == ["job"]


def test_who_is_behind_is_brought_level_before_it_takes_over() -> None:
    lab, owner, first, _ = owned_trio()
    lab.cut = {first}
    for number in range(6):
        lab.propose(owner, f"job {number}")
        lab.deliver()
    lab.do(owner, lambda node, now: node.transfer(LOG, first, now))
    assert not [message for _, to, message in lab.mail if to == first and isinstance(message, Campaign)]
    lab.cut = set()
    lab.wait(25)
    assert lab.nodes[first].owns(LOG)
    assert len(lab.texts(first)) == 6


# Forcing


def test_a_forced_log_goes_on_with_its_new_voters_and_the_old_ones_follow() -> None:
    lab, owner, first, second = owned_trio()
    lab.cut = {second}
    lab.propose(owner, "only elsewhere")
    lab.deliver()
    lab.wait(15)
    lab.cut = {owner, first}
    effects = lab.do(second, lambda node, now: node.force(LOG, voting(second, 1), "alice", now))
    assert [gain.epoch for gain in effects.gained] == [Epoch(1, 1, second)]
    lab.propose(second, "after")
    lab.cut = set()
    for name in (owner, first):
        lab.pull(name, second)
        lab.now += PACE.suspect_ms  # by then it does not count as supplied by its former owner
        lab.pull(name, second)
    assert lab.texts(owner) == lab.texts(first) == lab.texts(second) == ["after"]
    assert not lab.nodes[owner].owns(LOG)
    for name in (owner, first):
        (orphans,) = [one for effects in lab.seen[name] for one in effects.orphans]
        assert (orphans.first, orphans.last) == (3, 3)


# Failed transactions


def test_what_could_not_be_stored_is_forgotten_and_the_owner_goes_on() -> None:
    lab = Lab("a", "a", 1)
    lab.wait_for_owner()
    end = lab.nodes["a"].replica(LOG).end
    propose(lab.nodes["a"], "lost", lab.now)
    lab.fail("a")
    assert lab.nodes["a"].replica(LOG).end == end
    lab.propose("a", "kept")
    assert lab.texts("a") == ["kept"]
    assert lab.commit("a") == end + 1


def test_a_log_that_could_not_be_taken_over_is_not_owned() -> None:
    lab = Lab("a", "a", 1)
    lab.nodes["a"].tick(lab.now)
    campaign = lab.nodes["a"].effects()
    lab.store("a", campaign)
    for _, message in campaign.sends:
        lab.nodes["a"].receive("a", message, lab.now)
    assert lab.nodes["a"].owns(LOG)
    assert lab.fail("a").gained
    assert not lab.nodes["a"].owns(LOG)
    assert lab.wait_for_owner() == "a"


def test_a_promise_that_could_not_be_stored_was_not_given() -> None:
    lab = Lab("ab", "ab", 2)
    lab.nodes["b"].receive("z", Ask(LOG, Epoch(0, 9, "z"), (Epoch(0, 8, "z"), 99)), lab.now)
    lab.fail("b")
    assert lab.nodes["b"].replica(LOG).promised == GENESIS_EPOCH
    assert not lab.nodes["b"].effects().sends
