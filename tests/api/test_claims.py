"""Claims that wait: answered by the job that comes, at the latest after their time; never lost when nobody listens."""

from concurrent.futures import Future, ThreadPoolExecutor

from falcon import testing

from skyclaw.scheduling.turn import Rules
from tests.api.in_process import Answer, Client, InProcess, until

PATIENCE_S = 10.0


def parked(client: Client, pool: ThreadPoolExecutor, host_id: str = "h1", **fields: object) -> "Future[Answer]":
    """A claim that waits."""
    before = len(client.inside.queue.parking)
    future = pool.submit(client.post, f"/v1/hosts/{host_id}/claim", {"waitMs": 30_000, **fields})
    until(lambda: len(client.inside.queue.parking) > before)
    return future


def test_a_parked_claim_gets_the_job_that_comes(client: Client) -> None:
    client.register()
    with ThreadPoolExecutor(1) as pool:
        claim = parked(client, pool)
        job = client.enqueue()
        assert claim.result(PATIENCE_S).json["job"]["id"] == job["id"]


def test_a_claim_ends_empty_after_its_time(client: Client) -> None:
    client.register()
    assert client.post("/v1/hosts/h1/claim", {"waitMs": 20}).json == {"job": None, "jobs": []}


def test_a_claim_takes_as_many_jobs_as_it_asks_for(client: Client) -> None:
    client.register()
    wanted = [client.enqueue()["id"] for _ in range(3)][:2]
    answer = client.post("/v1/hosts/h1/claim", {"max": 2}).json
    assert [job["id"] for job in answer["jobs"]] == wanted
    assert answer["job"] == answer["jobs"][0]


def test_the_same_claim_again_gets_the_same_leases(client: Client) -> None:
    client.register()
    client.enqueue()
    client.enqueue()
    first = client.post("/v1/hosts/h1/claim", {"claimId": "c1"}).json
    assert client.post("/v1/hosts/h1/claim", {"claimId": "c1"}).json == first
    assert client.post("/v1/hosts/h1/claim", {"claimId": "c2"}).json["job"]["id"] != first["job"]["id"]


def test_a_full_host_is_told_so(client: Client) -> None:
    client.register(maxParallel=1)
    client.enqueue()
    client.claim()
    assert client.post("/v1/hosts/h1/claim", {}).json == {"job": None, "jobs": [], "reason": "full"}


def test_when_too_many_claims_wait_the_next_one_is_told_to_come_back() -> None:
    client = Client(InProcess(Rules(max_parked=1)))
    client.register("h1")
    client.register("h2")
    with ThreadPoolExecutor(1) as pool:
        claim = parked(client, pool)
        answer = client.post("/v1/hosts/h2/claim", {"waitMs": 30_000}).json
        assert answer["job"] is None
        assert 500 <= answer["retryAfterMs"] <= 1500
        client.enqueue()
        assert claim.result(PATIENCE_S).json["job"] is not None


def test_jobs_whose_claim_was_left_are_free_again_at_once(client: Client, inside: InProcess) -> None:
    client.register("h1")
    client.register("h2")
    gone = testing.TestClient(client.app, headers={"content-type": "application/json"})
    left = {"waitress.client_disconnected": lambda: True}
    with ThreadPoolExecutor(1) as pool:
        claim = pool.submit(gone.simulate_post, "/v1/hosts/h1/claim", body='{"waitMs":30000}', extras=left)
        until(lambda: len(inside.queue.parking) == 1)
        job = client.enqueue()
        assert claim.result(PATIENCE_S).json["job"] is None
    assert client.claim("h2")["id"] == job["id"]
    events = client.get(f"/v1/jobs/{job['id']}/events").json["events"]
    assert [event["type"] for event in events] == ["JobEnqueued", "JobLeased", "JobReleased", "JobLeased"]
    assert events[2]["data"]["reason"] == "its claim was not answered"


def test_a_claim_whose_client_listens_keeps_its_jobs(client: Client) -> None:
    client.register()
    job = client.enqueue()
    there = testing.TestClient(client.app, headers={"content-type": "application/json"})
    answer = there.simulate_post("/v1/hosts/h1/claim", body="{}", extras={"waitress.client_disconnected": lambda: False})
    assert answer.json["job"]["id"] == job["id"]
