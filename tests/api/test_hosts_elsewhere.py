"""Hosts that hold jobs of several coordinators: one heartbeat, one registration and one delivery reach whoever decides."""

from typing import Any

import pytest

from skyclaw.commands import Register
from skyclaw.outside.peer_channel import Reply
from tests.api.in_process import result
from tests.api.several import Member, Several, header

NOBODYS = "job_99999999-0000-4000-8000-000000000000"


@pytest.fixture
def held(a: Member, b: Member, c: Member) -> list[dict[str, Any]]:
    """The leases of h1: a job of each coordinator."""
    a.register(maxParallel=9)
    ids = [member.enqueue()["id"] for member in (a, b, c)]
    claimed = {job["id"]: job for job in (a.claim() for _ in ids)}
    return [{"jobId": job_id, "leaseToken": claimed[job_id]["leaseToken"]} for job_id in ids]


def beat(member: Member, leases: list[dict[str, Any]] | None, **headers: str) -> Any:
    body = {} if leases is None else {"leases": leases}
    return member.expect(200, member.post("/v1/hosts/h1/heartbeat", body, **headers))


def lease_ends(them: list[Member]) -> list[int | None]:
    """When each coordinator lets the lease of its own job end."""
    return [next(iter(member.inside.queue.books.home.deadlines.ends().values()), None) for member in them]


def pass_everywhere(three: Several, ms: int) -> None:
    for member in three.members:
        member.inside.now += ms


@pytest.mark.parametrize("listed", [True, False])
def test_a_heartbeat_renews_the_leases_at_every_owner(three: Several, a: Member, held: list[dict[str, Any]], listed: bool) -> None:
    before = lease_ends(three.members)
    pass_everywhere(three, 10_000)
    answer = beat(a, held if listed else None)
    assert (answer["cancelled"], answer["lost"], answer["host"]["activeLeases"], "notRenewed" in answer) == ([], [], 3, False)
    assert lease_ends(three.members) == [end + 10_000 for end in before if end is not None]
    assert [target for _, target in a.seat.forwarded[2:]] == ["/v1/hosts/h1/heartbeat"] * 2


def test_what_others_have_cancelled_or_taken_away_is_in_the_answer(a: Member, b: Member, c: Member, held: list[dict[str, Any]]) -> None:
    ids = [one["jobId"] for one in held]
    b.inside.followers = c.inside.followers = []  # so that only they know
    b.post(f"/v1/jobs/{ids[1]}/cancel", {})
    c.post(f"/v1/jobs/{ids[2]}/release", {"hostId": "h1"})
    answer = beat(a, held)
    assert (answer["cancelled"], answer["lost"]) == ([ids[1]], [ids[2]])


def test_an_owner_that_cannot_be_told_neither_renews_nor_loses(three: Several, a: Member, b: Member, held: list[dict[str, Any]]) -> None:
    b.gone()
    pass_everywhere(three, 10_000)
    before = lease_ends(three.members)
    answer = beat(a, held)
    assert (answer["cancelled"], answer["lost"], answer["notRenewed"]) == ([], [], [held[1]["jobId"]])
    after = lease_ends(three.members)
    assert [end != former for end, former in zip(after, before, strict=True)] == [True, False, True]


def test_a_lease_of_a_log_that_nobody_owns_or_knows_is_not_renewed(
    three: Several, a: Member, b: Member, held: list[dict[str, Any]]
) -> None:
    three.owners[b.tag] = None
    strange = {"jobId": NOBODYS, "leaseToken": "0.1.x/1"}
    answer = beat(a, [*held, strange])
    assert (answer["lost"], answer["notRenewed"]) == ([], sorted([held[1]["jobId"], NOBODYS]))


def test_a_heartbeat_that_came_from_another_coordinator_is_not_sent_on(a: Member, b: Member, held: list[dict[str, Any]]) -> None:
    answer = beat(b, held, x_skyclaw_tried=header(a.node))
    assert "notRenewed" not in answer
    assert b.seat.forwarded == []


def test_a_heartbeat_with_a_key_has_its_effect_at_every_owner(three: Several, a: Member, held: list[dict[str, Any]]) -> None:
    pass_everywhere(three, 10_000)
    before = lease_ends(three.members)
    beat(a, held, x_idempotency_key="k")
    assert all(end != former for end, former in zip(lease_ends(three.members), before, strict=True))


def test_a_new_life_frees_the_jobs_of_the_former_one_at_every_owner(a: Member, b: Member, c: Member, held: list[dict[str, Any]]) -> None:
    host = b.register(maxParallel=9, leases=held[:1])
    assert host["id"] == "h1"
    statuses = [a.get(f"/v1/jobs/{one['jobId']}").json["job"]["status"] for one in held]
    assert statuses == ["leased", "queued", "queued"]
    told = [command for command in c.inside.asked if isinstance(command, Register)]
    assert [(one.forwarded, one.life, one.leases == (), one.keyed) for one in told] == [(True, 2, False, None)]


def test_a_host_without_an_id_has_the_same_one_everywhere(a: Member, b: Member) -> None:
    foreign = [{"jobId": f"job_{b.tag}-0000-4000-8000-000000000000", "leaseToken": "0.1.x/1"}]
    host = a.post("/v1/hosts/register", {"name": "n", "leases": foreign}, x_idempotency_key="k").json["host"]
    told = [command for command in b.inside.asked if isinstance(command, Register)]
    assert [(one.host_id, one.life, one.keyed) for one in told] == [(host["id"], 1, None)]


def test_only_coordinators_say_which_life_it_is(a: Member) -> None:
    a.post("/v1/hosts/register", {"name": "n"}, x_skyclaw_life="7")
    assert [(one.forwarded, one.life) for one in a.inside.asked if isinstance(one, Register)] == [(False, 0)]


def deliver(member: Member, told: list[dict[str, Any]], **headers: str) -> Any:
    return member.expect(200, member.post("/v1/hosts/h1/results", {"results": told}, **headers))["results"]


def test_results_go_to_whoever_decides_and_come_back_in_order(a: Member, b: Member, held: list[dict[str, Any]]) -> None:
    printed = result(stdout="é\ud83d cut \u0000", more={"deep": [1.5]})
    told = [{**held[number], **printed} for number in (1, 0, 2, 1)]
    told += [{"jobId": NOBODYS, **result()}, {**held[1], **result(), "leaseToken": "0.0.x/1"}]
    answers = deliver(a, told)
    assert [(one["jobId"], one["ok"], one.get("status", one.get("code"))) for one in answers] == [
        *((held[number]["jobId"], True, "completed") for number in (1, 0, 2, 1)),
        (NOBODYS, False, "unknown_job"),
        (held[1]["jobId"], False, "not_leased"),
    ]
    seen = b.get(f"/v1/jobs/{held[1]['jobId']}").json["job"]["result"]
    assert (seen["stdout"], seen["more"]) == ("é\ufffd cut \u0000", {"deep": [1.5]})
    assert [target for _, target in a.seat.forwarded[2:]] == ["/v1/hosts/h1/results"] * 2


def test_a_result_whose_owner_cannot_be_asked_is_to_be_sent_again(three: Several, a: Member, b: Member, held: list[dict[str, Any]]) -> None:
    three.owners["cccccccc"] = None
    b.gone()
    told = [{**lease, **result()} for lease in held]
    answers = deliver(a, told)
    assert [one.get("code") for one in answers] == [None, "owner_unknown", "owner_unknown"]
    assert [one["jobId"] for one in answers] == [one["jobId"] for one in held]
    three.move("cccccccc", a)
    assert [one["ok"] for one in deliver(a, told)] == [True, False, True]


def test_an_owner_that_does_not_know_the_host_yet_has_not_taken_its_results(three: Several, a: Member, b: Member, c: Member) -> None:
    a.inside.followers = []
    a.register()
    three.follow(a)
    told = [{"jobId": a.enqueue()["id"], **result()}, {"jobId": b.enqueue()["id"], **result()}]
    assert [one["code"] for one in deliver(a, told)] == ["not_leased", "owner_unknown"]


def test_of_a_job_that_a_coordinator_does_not_know_yet_nothing_is_said_for_good(a: Member, held: list[dict[str, Any]]) -> None:
    a.seat.ready = False
    answers = deliver(a, [{"jobId": NOBODYS, **result()}, {**held[0], **result()}])
    assert [one.get("code") for one in answers] == ["owner_unknown", None]


def test_results_with_a_key_are_taken_once_and_told_again(a: Member, held: list[dict[str, Any]]) -> None:
    told = [{**lease, **result()} for lease in held]
    first = deliver(a, told, x_idempotency_key="k")
    assert deliver(a, told, x_idempotency_key="k") == first
    only = [{**held[1], **result()}]
    assert deliver(a, only, x_idempotency_key="k2") == deliver(a, only, x_idempotency_key="k2")


def test_results_with_a_key_are_told_again_also_by_who_decides_for_several_logs(
    three: Several, a: Member, c: Member, held: list[dict[str, Any]]
) -> None:
    for _ in range(9):
        c.enqueue()  # so that its log is the longest
    three.move("bbbbbbbb", a)
    three.move("cccccccc", a)
    told = [{**lease, **result()} for lease in held]
    first = deliver(a, told, x_idempotency_key="k")
    assert [one["ok"] for one in first] == [True] * 3
    assert deliver(a, told, x_idempotency_key="k") == first


def test_results_that_came_from_another_coordinator_are_not_sent_on(a: Member, b: Member, held: list[dict[str, Any]]) -> None:
    told = [{**lease, **result()} for lease in held]
    codes = [one.get("code") for one in deliver(b, told, x_skyclaw_tried=header(a.node))]
    assert codes == ["not_owner", None, "not_owner"]
    assert b.seat.forwarded == []


def test_an_answer_that_does_not_fit_the_results_counts_as_none(
    a: Member, b: Member, held: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = a.seat.forward

    def too_short(node: str, *more: Any) -> Reply:
        return Reply(200, {}, b'{"results": []}') if node == b.node else forward(node, *more)

    monkeypatch.setattr(a.seat, "forward", too_short)
    assert [one.get("code") for one in deliver(a, [{**lease, **result()} for lease in held])] == [None, "owner_unknown", None]
