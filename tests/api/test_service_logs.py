"""What instances have printed lately."""

from typing import Any

import pytest

from tests.api.in_process import Client, InProcess
from tests.api.service_talk import deploy, managed, run, sync


@pytest.fixture
def instance_id(client: Client) -> str:
    """An instance that runs."""
    managed(client)
    deploy(client)
    return run(client)


def say(client: Client, instance_id: str, at: int, text: str, status: str = "running") -> int | None:
    """The instance has printed this; returns from where on more is wanted."""
    heard = sync(client, {"instanceId": instance_id, "status": status, "port": 3100, "output": {"at": at, "text": text}})
    return next((one["outputAt"] for one in heard["instances"] if one["instanceId"] == instance_id), None)


def log(client: Client, **query: Any) -> Any:
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    return client.expect(200, client.get(f"/v1/services/web/log?{asked}"))


def test_what_an_instance_has_printed_is_shown_and_then_what_it_has_printed_since(client: Client, instance_id: str) -> None:
    assert say(client, instance_id, 0, "one\n") == 4
    shown = log(client)
    source = {"instanceId": instance_id, "hostId": "h1", "revision": 1, "status": "running"}
    assert shown["instances"] == [{**source, "text": "one\n", "from": 0, "end": 4}]
    assert say(client, instance_id, 4, "zwei é\n") == 12
    later = log(client, after=shown["next"])
    assert later["instances"] == [{**source, "text": "zwei é\n", "from": 4, "end": 12}]
    assert log(client, after=later["next"])["instances"][0]["text"] == ""


def test_the_last_words_of_an_instance_that_failed_are_kept_for_ten_minutes(client: Client, inside: InProcess, instance_id: str) -> None:
    say(client, instance_id, 0, "out of luck\n", "failed")
    [shown] = [one for one in log(client)["instances"] if one["instanceId"] == instance_id]
    assert (shown["text"], shown["status"]) == ("out of luck\n", "ended")
    inside.now += 600_001
    sync(client)
    assert instance_id not in [one["instanceId"] for one in log(client)["instances"]]


def test_the_end_is_shown_first_and_a_long_rest_in_pieces(client: Client, instance_id: str) -> None:
    say(client, instance_id, 0, "x" * 2000)
    assert log(client, limit=1024)["instances"][0]["from"] == 976
    start = log(client, after="at", limit=1024)
    assert (start["instances"][0]["from"], start["instances"][0]["end"]) == (0, 1024)
    assert log(client, after=start["next"], limit=1024)["instances"][0]["end"] == 2000


def test_one_instance_can_be_asked_for(client: Client, instance_id: str) -> None:
    client.post("/v1/services/web/scale", {"replicas": 2})
    other = next(one["instanceId"] for one in sync(client)["instances"] if one["instanceId"] != instance_id)
    say(client, instance_id, 0, "a")
    say(client, other, 0, "b")
    assert {one["text"] for one in log(client)["instances"]} == {"a", "b"}
    assert [one["text"] for one in log(client, instance=other)["instances"]] == ["b"]
    assert log(client, instance="ins_x")["instances"] == []


def test_nobody_prints_for_an_instance_that_there_is_not(client: Client, instance_id: str) -> None:
    say(client, instance_id.replace("ins_5eed5eed", "ins_aaaaaaaa"), 0, "x")
    say(client, "ins_5eed5eed-0000-4000-8000-000000000000", 0, "x")
    assert [one["text"] for one in log(client)["instances"]] == [""]


@pytest.mark.parametrize(
    "query", ["after=x", "after=at-1.2", "after=at-" + "0" * 32 + ".g", "limit=0", "limit=1048577", "after=at&after=at"]
)
def test_a_query_of_another_form_is_refused(client: Client, instance_id: str, query: str) -> None:
    assert instance_id
    assert client.get(f"/v1/services/web/log?{query}").status == 400


def test_a_cursor_never_leads_back(client: Client, instance_id: str) -> None:
    say(client, instance_id, 0, "one\n")
    ahead = log(client)["next"].replace(".4", ".ff")
    shown = log(client, after=ahead)
    assert (shown["instances"][0]["text"], shown["next"]) == ("", ahead)
