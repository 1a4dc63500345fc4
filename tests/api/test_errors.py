"""Every error has the same shape and the status of its class; none tells what is not the client's business."""

import logging
import re
from collections.abc import Iterator

import pytest

from api.parts import HealthSeen
from skyclaw import errors
from skyclaw.errors import SkyclawError
from tests.api.in_process import SHELL, Client, InProcess

STATUSES = {
    errors.Invalid: 400,
    errors.UnknownHost: 404,
    errors.UnknownJob: 404,
    errors.NotLeased: 409,
    errors.StaleAttempt: 409,
    errors.AlreadyFinished: 409,
    errors.IdempotencyConflict: 409,
    errors.QueueFull: 429,
    errors.Unavailable: 503,
    errors.Undecided: 503,
    errors.StorageReadOnly: 503,
    errors.StorageFailed: 503,
    errors.StorageFull: 507,
}


@pytest.mark.parametrize("error", STATUSES)
def test_each_refusal_has_its_status_and_word(client: Client, inside: InProcess, error: type[SkyclawError]) -> None:
    inside.failure = error()
    answer = client.post("/v1/jobs", {"payload": SHELL}, x_request_id="r-1")
    assert answer.status == STATUSES[error]
    assert (answer.json["error"], answer.json["code"], answer.json["requestId"]) == (str(error()), error.code, "r-1")
    assert answer.json.get("details", {}) == error().details
    assert ("retry-after" in answer.headers) == (answer.status in (429, 503, 507))


@pytest.mark.parametrize(
    ("error", "written"), [(errors.Unavailable(), False), (errors.Undecided(), "unknown"), (errors.StorageFull(), False)]
)
def test_what_cannot_be_done_now_says_whether_it_was_written(
    client: Client, inside: InProcess, error: SkyclawError, written: object
) -> None:
    inside.failure = error
    assert client.post("/v1/jobs", {"payload": SHELL}).json["details"]["written"] == written


@pytest.mark.parametrize("error", [ZeroDivisionError("secret detail"), SkyclawError("secret detail"), KeyError("secret detail")])
def test_our_own_mistake_is_a_500_that_only_the_log_explains(
    client: Client, inside: InProcess, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    inside.failure = error
    answer = client.post("/v1/jobs", {"payload": SHELL})
    assert (answer.status, answer.json["code"]) == (500, "internal")
    assert "secret detail" not in answer.text
    assert answer.json["requestId"] in caplog.text
    assert "Traceback" in caplog.text


def test_a_mistake_is_logged_in_one_line_whatever_the_path(client: Client, inside: InProcess, caplog: pytest.LogCaptureFixture) -> None:
    inside.failure = ZeroDivisionError()
    client.get("/v1/hosts/a\u202eb")
    client.get("/v1/state")
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(messages) == 1
    assert all(message.isascii() and "\n" not in message for message in messages)


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/jobs/", "/", "/v1/jobs/a/b/c", "/v1/jobs/../../etc/passwd", "/v1"])
def test_an_unknown_path_is_not_found(client: Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status, answer.json["error"], answer.json["code"]) == (404, "not found", "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/v1/jobs", "GET, POST"), ("DELETE", "/v1/hosts/h1", "GET"), ("GET", "/v1/jobs/batch", "POST"), ("HEAD", "/health", "GET")],
)
def test_a_wrong_method_is_told_the_right_ones(client: Client, method: str, path: str, allowed: str) -> None:
    answer = client.ask(method, path)
    assert answer.status == 405
    assert set(allowed.split(", ")) <= set(answer.headers["allow"].split(", "))
    assert not answer.text or answer.json["code"] == "method_not_allowed"


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_dangerous_methods_are_refused_everywhere(client: Client, method: str) -> None:
    answer = client.ask(method, "/")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")


def all_answers(client: Client) -> Iterator[dict[str, str]]:
    client.inside.failure = None
    for path in ("/health", "/v1/state", "/v1/nothing"):
        yield client.get(path).headers
    yield client.post("/v1/jobs", b"{").headers
    yield client.ask("PUT", "/v1/jobs").headers
    client.inside.failure = ZeroDivisionError()
    yield client.get("/v1/state").headers


def test_every_answer_bears_its_id_and_the_headers_that_keep_browsers_out(client: Client) -> None:
    ids = []
    for headers in all_answers(client):
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"] == "default-src 'none'"
        assert headers["cache-control"] == "no-store"
        assert headers["content-type"] == "application/json; charset=utf-8"
        ids.append(headers["x-request-id"])
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]{16}", request_id) for request_id in ids)


@pytest.mark.parametrize(
    ("given", "kept"), [("a-Z_9.", True), ("a" * 64, True), ("a" * 65, False), ("a b", False), ("é", False), ("", False)]
)
def test_a_well_formed_id_of_the_client_is_kept(client: Client, given: str, kept: bool) -> None:
    assert (client.get("/health", x_request_id=given).headers["x-request-id"] == given) is kept


def test_a_coordinator_whose_actors_died_says_so_with_503(client: Client) -> None:
    client.health = HealthSeen(ok=False, ready=False, degraded=("JobQueue is down",), actors={"JobQueue": False, "Replicator": True})
    answer = client.get("/health")
    assert answer.status == 503
    assert answer.json["ok"] is False
    assert answer.json["degraded"] == ["JobQueue is down"]
    assert answer.json["actors"] == {"JobQueue": False, "Replicator": True}


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/png"])
def test_answers_are_json_whatever_is_asked_for(client: Client, accept: str) -> None:
    for path in ("/health", "/v1/nothing"):
        assert client.get(path, accept=accept).headers["content-type"].startswith("application/json")
