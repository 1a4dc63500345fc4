"""There are no services, and whoever asks for some by default hears just that."""

import pytest

from tests.api.in_process import Client, InProcess


def test_the_list_of_services_is_empty(client: Client) -> None:
    answer = client.get("/v1/services")
    assert (answer.status, answer.json) == (200, {"services": []})


def test_a_host_that_asks_for_a_service_gets_none(client: Client, inside: InProcess) -> None:
    client.register()
    before = len(inside.records)
    for body in (None, {}):
        answer = client.post("/v1/hosts/h1/services/claim", body)
        assert (answer.status, answer.json) == (200, {"service": None})
    assert len(inside.records) == before


@pytest.mark.parametrize("host_id", ["h9", "a" * 200])
def test_an_unknown_host_is_told_to_register(client: Client, host_id: str) -> None:
    answer = client.post(f"/v1/hosts/{host_id}/services/claim", {})
    assert (answer.status, answer.json["code"]) == (404, "unknown_host")


def test_a_claim_says_nothing_more(client: Client) -> None:
    client.register()
    assert client.post("/v1/hosts/h1/services/claim", {"max": 1}).json["details"] == {"max": ["is not a field of this request"]}


def test_a_service_cannot_be_created(client: Client) -> None:
    for path in ("/v1/services", "/v1/services/s1", "/v1/services/s1/report"):
        answer = client.post(path, {"name": "web", "command": "serve"})
        assert (answer.status, answer.json["code"]) == (404, "not_found")


def test_nobody_is_answered_without_the_token(inside: InProcess) -> None:
    client = Client(inside, tokens=("secret",))
    for answer in (client.get("/v1/services"), client.post("/v1/hosts/h1/services/claim", {})):
        assert answer.status == 401
    assert client.get("/v1/services", x_skyclaw_token="secret").status == 200  # noqa: S106  # only the tests' own client knows it
