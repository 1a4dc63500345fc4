"""What once went wrong, each found by the simulation or by reading."""

import pytest

from skyclaw.cluster import replica
from skyclaw.cluster.messages import Ack, Append, Ask, Grant, Pulled
from skyclaw.cluster.replica import Broken
from skyclaw.cluster.replication import Effects, Written
from skyclaw.events import OwnershipTaken
from skyclaw.records import GENESIS_EPOCH, Epoch, Record
from tests.cluster.lab import LOG, PACE, Lab, job, propose, record, voting


def forced_apart() -> Lab:
    """The log of three is forced on c, which has a record of its own (d) where the two others have committed another one (x)."""
    lab = Lab("abcde", "abc", 2)
    lab.wait(100, "c")
    assert lab.nodes["c"].owns(LOG)
    lab.cut = {"a", "b"}
    lab.propose("c", "d")
    lab.deliver()
    lab.wait(60, "c")
    lab.cut = {"c"}
    owner = lab.wait_for_owner("ab")
    lab.propose(owner, "x")
    lab.deliver()
    lab.wait(15)
    lab.cut = {"a", "b"}
    lab.do("c", lambda node, now: node.force(LOG, voting("cd", 2), "alice", now))
    lab.wait(30, "cd")
    return lab


def test_an_empty_copy_has_nothing_in_common_with_another() -> None:
    lab = Lab("ab", "a", 1)
    lab.wait_for_owner()
    lab.nodes["b"].receive("z", Ask(LOG, None, (GENESIS_EPOCH, 0)), lab.now)  # so that b has heard of the log, and nothing else
    lab.pull("b", "a")
    assert lab.nodes["b"].replica(LOG).end == 2


def test_a_copy_from_before_a_forced_takeover_owns_nothing_after_it() -> None:
    lab = forced_apart()
    assert lab.nodes["c"].owns(LOG)
    lab.restart("a")
    lab.restart("b")
    lab.cut = {"d"}
    lab.wait(300)
    assert not lab.nodes["a"].owns(LOG)
    assert not lab.nodes["b"].owns(LOG)
    for name in "ab":
        promises = [effects.promises[LOG] for effects in lab.seen[name] if LOG in effects.promises]
        assert promises == sorted(promises)
        assert promises[-1].generation == 1
    lab.cut = set()
    lab.wait(30, "cd")
    for name in "ab":
        lab.pull(name, "c")
        lab.now += PACE.suspect_ms
        lab.pull(name, "c")
    assert lab.texts("a") == lab.texts("b") == lab.texts("c") == ["d"]


def test_a_page_of_a_forced_log_may_hold_records_of_the_former_generation_only() -> None:
    lab = forced_apart()
    lab.cut = set()
    lab.now += PACE.suspect_ms
    fork = len([one for one in lab.disks["a"].logs[LOG] if one in lab.disks["c"].logs[LOG]])
    lab.do("a", lambda node, now: node.receive("c", node.pull(now), now))
    pull = lab.nodes["a"].pull(lab.now)
    (news,) = lab.nodes["c"].answer(pull).news
    short = news._replace(records=news.records[:1])
    assert short.prev == fork
    assert Epoch.parse(short.records[0].epoch).generation == 0
    lab.do("a", lambda node, now: node.receive("c", Pulled((short,)), now))
    assert lab.disks["a"].logs[LOG] == lab.disks["c"].logs[LOG][: fork + 1]
    from_b = lab.nodes["b"].answer(lab.nodes["a"].pull(lab.now))
    lab.do("a", lambda node, now: node.receive("b", from_b, now))  # b has not heard of the takeover: what it has is past
    assert lab.disks["a"].logs[LOG] == lab.disks["c"].logs[LOG][: fork + 1]
    assert all(not one.records for one in lab.nodes["a"].answer(lab.nodes["e"].pull(lab.now)).news)
    lab.pull("a", "c")
    assert lab.disks["a"].logs[LOG] == lab.disks["c"].logs[LOG]


def test_orphans_are_reported_also_by_who_does_not_know_any_more_that_they_were_committed() -> None:
    lab = forced_apart()
    lab.restart("a", committed=1)
    lab.cut = set()
    lost = [one.seq for one in lab.disks["a"].logs[LOG] if one not in lab.disks["c"].logs[LOG]]
    lab.pull("a", "c")
    (orphans,) = [one for effects in lab.seen["a"] for one in effects.orphans]
    assert list(range(orphans.first, orphans.last + 1)) == lost


def test_orphans_are_reported_again_when_they_could_not_be_replaced() -> None:
    lab = forced_apart()
    lab.now += PACE.suspect_ms
    commit, end, node = lab.commit("a"), lab.nodes["a"].replica(LOG).end, lab.nodes["a"]
    (whole,) = lab.nodes["c"].answer(node.pull(lab.now)).news
    news = Pulled((whole._replace(records=whole.records[:1]),))
    node.receive("c", news, lab.now)
    assert lab.commit("a") < commit
    failed = lab.fail("a")
    assert (lab.commit("a"), node.replica(LOG).end) == (commit, end)
    assert lab.do("a", lambda node, now: node.receive("c", news, now)).orphans == failed.orphans != []


def test_who_could_not_store_that_a_log_was_forced_does_not_vouch_for_it() -> None:
    lab = forced_apart()
    lab.now += PACE.suspect_ms
    lab.nodes["a"].receive("c", lab.nodes["c"].answer(lab.nodes["a"].pull(lab.now)), lab.now)
    lab.fail("a")
    assert all(one.owner.generation == 0 for one in lab.nodes["a"].answer(lab.nodes["e"].pull(lab.now)).news)


def test_who_is_supplied_by_the_former_owner_hears_of_a_forced_takeover_all_the_same() -> None:
    lab = forced_apart()
    lab.cut = {"c", "d"}
    lab.wait(20)
    pull = lab.nodes["a"].pull(lab.now)
    assert all(copy.fed for copy in pull.copies)
    assert lab.nodes["c"].answer(pull).news


def test_a_forced_takeover_that_could_not_be_stored_did_not_happen() -> None:
    lab = Lab("ab", "ab", 2)
    lab.wait_for_owner()
    lab.nodes["b"].force(LOG, voting("b", 1), "alice", lab.now)
    lab.fail("b")
    assert lab.nodes["b"].replica(LOG).owner.generation == 0
    lab.wait(200)
    assert lab.wait_for_owner()
    assert lab.nodes["a"].replica(LOG).promised.generation == 0


def follower_with_a_tail() -> tuple[Lab, list[Record]]:
    """Voter b has an uncommitted record of epoch 0.1.a; epoch 0.2.c has another one there, and more."""
    lab = Lab("abc", "abc", 2)
    first = lab.disks["b"].logs[LOG][0]
    tail = record(first.hash, 2, "0.1.a", OwnershipTaken("a", "founded"))
    lab.store("b", Effects(writes={LOG: Written(2, [tail])}, promises={LOG: Epoch(0, 1, "a")}))
    lab.restart("b")
    second = record(first.hash, 2, "0.2.c", OwnershipTaken("c", "takeover"))
    return lab, [first, second, record(second.hash, 3, "0.2.c", job("job"))]


def test_what_could_not_be_replaced_is_not_committed() -> None:
    lab, records = follower_with_a_tail()
    node = lab.nodes["b"]
    node.receive("c", Append(LOG, Epoch(0, 2, "c"), 1, GENESIS_EPOCH, tuple(records[1:]), 3), lab.now)
    lab.fail("b")
    assert (node.replica(LOG).end, node.replica(LOG).commit) == (2, 1)
    assert node.replica(LOG).epoch_at(2) == Epoch(0, 1, "a")


def test_what_is_committed_is_told_also_after_a_failed_transaction() -> None:
    lab, records = follower_with_a_tail()
    node = lab.nodes["b"]
    lab.do("b", lambda node, now: node.receive("c", Append(LOG, Epoch(0, 2, "c"), 1, GENESIS_EPOCH, (records[1],), 1), now))
    node.receive("c", Append(LOG, Epoch(0, 2, "c"), 2, Epoch(0, 2, "c"), (records[2],), 2), lab.now)
    node.receive("c", Append(LOG, Epoch(0, 2, "c"), 2, Epoch(0, 2, "c"), (), 2), lab.now)
    lab.fail("b")
    assert node.effects().committed == {LOG: 2}


def test_what_was_gained_and_lost_before_anybody_heard_of_it_was_not_gained() -> None:
    lab = Lab("abc", "abc", 2)
    epoch = Epoch(0, 1, "a")
    lab.cut = {"b", "c"}
    lab.wait(50, "a")
    node = lab.nodes["a"]
    node.receive("b", Grant(LOG, None, True, GENESIS_EPOCH), lab.now)
    lab.settle("a")
    node.receive("b", Grant(LOG, epoch, True, epoch), lab.now)
    assert node.owns(LOG)
    node.receive("b", Ask(LOG, Epoch(0, 9, "b"), (Epoch(0, 8, "b"), 9)), lab.now)
    effects = node.effects()
    assert not effects.gained
    assert not effects.lost


def test_what_was_lost_and_gained_again_is_told_as_both() -> None:
    lab = Lab("a", "a", 1)
    lab.wait_for_owner()
    commit = lab.commit("a")
    effects = lab.do("a", lambda node, now: node.force(LOG, voting("a", 1), "alice", now))
    assert effects.lost == {LOG: commit}
    assert len(effects.gained) == 1


def test_a_loss_tells_what_was_committed_just_then_and_not_what_the_next_owner_put_there() -> None:
    lab = Lab("abc", "abc", 2)
    owner = lab.wait_for_owner()
    first, second = sorted(set("abc") - {owner})
    lab.cut = {owner}
    lab.propose(owner, "dropped")
    lab.mail.clear()
    commit = lab.commit(owner)
    frozen = lab.nodes.pop(owner)
    new = lab.wait_for_owner({first, second})
    lab.nodes[owner] = frozen
    other = lab.nodes[new].replica(LOG)
    append = Append(LOG, other.promised, commit, other.epoch_at(commit), other.records(commit, 9, 1 << 20), other.commit)
    effects = lab.do(owner, lambda node, now: node.receive(new, append, now))
    assert effects.committed[LOG] > commit
    assert effects.lost == {LOG: commit}


def test_a_change_of_voters_goes_on_after_a_failed_transaction() -> None:
    lab = Lab("ab", "a", 1)
    lab.wait_for_owner()
    lab.pull("b", "a")
    lab.do("a", lambda node, now: node.reconfigure(LOG, voting("ab", 2), now))
    while len(lab.nodes["a"].replica(LOG).configuration) == 2:
        src, to, message = lab.mail.pop(0)
        if to == "a":
            lab.nodes["a"].receive(src, message, lab.now)
            if lab.nodes["a"].replica(LOG).configuration == (voting("ab", 2),):
                break
            lab.settle("a")
        else:
            lab.do(to, lambda node, now, src=src, message=message: node.receive(src, message, now))  # type: ignore[misc]
    lab.fail("a")
    assert len(lab.nodes["a"].replica(LOG).configuration) == 2
    lab.wait(50)
    assert lab.nodes["b"].replica(LOG).configuration == (voting("ab", 2),)


def test_a_voter_whose_disk_is_full_is_not_flooded() -> None:
    lab = Lab("abc", "abc", 2)
    owner = lab.wait_for_owner()
    full = sorted(set("abc") - {owner})[0]
    for number in range(8):
        lab.propose(owner, f"job {number}")
    sent = 0
    for _ in range(8):
        mail, lab.mail = lab.mail, []
        for src, to, message in mail:
            if to == full:
                sent += 1
                lab.nodes[full].receive(src, message, lab.now)
                effects = lab.nodes[full].effects()
                if effects.writes:
                    lab.nodes[full].undo(effects, [lab.disks[full].restored(LOG, lab.commit(full))])
                else:
                    lab.mail += [(full, to, one) for to, one in effects.sends]
            else:
                lab.do(to, lambda node, now, src=src, message=message: node.receive(src, message, now))  # type: ignore[misc]
    assert sent < 20
    lab.wait(30)
    assert len(lab.texts(full)) == 8


def test_a_learner_that_was_away_for_many_epochs_gets_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "SHAPE_STARTS", 3)
    lab = Lab("ab", "a", 1)
    lab.wait_for_owner()
    lab.pull("b", "a")
    for _ in range(9):
        lab.restart("a")
        lab.wait_for_owner("a")
    lab.pull("b", "a")
    assert lab.disks["a"].logs[LOG] == lab.disks["b"].logs[LOG]


def test_a_proposal_never_replaces_what_the_node_wrote_itself() -> None:
    lab = Lab("ab", "a", 1)
    lab.wait_for_owner()
    node = lab.nodes["a"]
    decided = record(node.replica(LOG).hash, node.replica(LOG).end + 1, node.epoch(LOG), job("job"))
    lab.do("a", lambda node, now: node.reconfigure(LOG, voting("ab", 1), now))
    end = node.replica(LOG).end
    with pytest.raises(ValueError, match="ends at"):
        node.propose(LOG, node.epoch(LOG), [decided], lab.now)
    assert node.replica(LOG).end == end


def test_a_node_that_does_not_vote_any_more_does_not_take_the_log_over_again_and_again() -> None:
    lab = Lab("abc", "abc", 2)
    assert lab.wait_for_owner() == "a"
    lab.do("a", lambda node, now: node.reconfigure(LOG, voting("bc", 2), now))
    lab.deliver()
    lab.wait(10)
    assert lab.nodes["b"].owns(LOG) or lab.nodes["c"].owns(LOG)


def test_an_owner_is_deposed_by_a_refusal_of_a_later_generation() -> None:
    lab = Lab("abc", "abc", 2)
    owner = lab.wait_for_owner()
    epoch, forced = Epoch.parse(lab.nodes[owner].epoch(LOG)), Epoch(1, 1, "z")
    lab.do(owner, lambda node, now: node.receive("z", Ack(LOG, epoch, False, 0, forced), now))
    assert not lab.nodes[owner].owns(LOG)
    assert lab.nodes[owner].replica(LOG).promised.generation == 1
    with pytest.raises(Exception, match="another coordinator"):
        propose(lab.nodes[owner], "job", lab.now)


def test_one_damaged_log_does_not_keep_news_of_the_others_away() -> None:
    lab = Lab("ab", "a", 1)
    lab.wait_for_owner()
    (good,) = lab.nodes["a"].answer(lab.nodes["b"].pull(lab.now)).news
    forged = record(bytes(31) + b"x", 1, "0.1.z", job("forged"), log="z")
    bad = good._replace(log="z", records=(forged,), commit=1)
    with pytest.raises(Broken):
        lab.nodes["b"].receive("a", Pulled((bad, good)), lab.now)
    lab.settle("b")
    assert lab.disks["b"].logs[LOG] == lab.disks["a"].logs[LOG]
