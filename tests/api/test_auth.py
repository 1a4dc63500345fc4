"""Who shows no right token gets the same 401, whatever was wrong with it and wherever it was shown."""

import logging

import pytest

from tests.api.in_process import Client, InProcess

TOKENS = ("first-token-of-two", "second-token-of-two")


def shown(token: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"x_skyclaw_token": token}


@pytest.fixture
def closed(inside: InProcess) -> Client:
    """A coordinator with two live tokens."""
    return Client(inside, tokens=TOKENS)


@pytest.mark.parametrize("token", TOKENS)
def test_each_live_token_opens(closed: Client, token: str) -> None:
    assert closed.get("/v1/state", **shown(token)).status == 200


@pytest.mark.parametrize(
    "token",
    [
        "",
        "first-token-of-twO",
        "first-token-of-tw",
        "first-token-of-two2",
        "é" * 18,
        "x" * 15_000,
        ", ".join(TOKENS),
        "first-token-of-two, x",
    ],
)
@pytest.mark.parametrize("path", ["/v1/state", "/v1/nothing", "/", "/health/"])
def test_any_other_token_is_refused_before_routing(closed: Client, path: str, token: str) -> None:
    answer = closed.get(path, **shown(token), x_request_id="r")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Skyclaw")
    assert answer.json == {"error": "unauthorized", "code": "unauthorized", "requestId": "r"}


def test_no_token_at_all_is_refused(closed: Client, inside: InProcess) -> None:
    assert closed.post("/v1/jobs", {"payload": {"kind": "shell", "command": "x"}}).status == 401
    assert inside.asked == []


def test_health_is_open(closed: Client) -> None:
    assert closed.get("/health").status == 200


def test_a_coordinator_without_a_token_is_open(client: Client) -> None:
    assert client.get("/v1/state").status == 200
    assert client.get("/v1/state", **shown("anything")).status == 200


def test_no_token_reaches_the_log(closed: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    closed.get("/v1/state", **shown("first-token-of-twO"))
    closed.inside.failure = ZeroDivisionError()
    closed.get("/v1/state", **shown(TOKENS[0]))
    assert "first-to" not in caplog.text
