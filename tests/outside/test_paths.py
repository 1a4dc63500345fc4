"""Paths of jobs and hosts."""

import pytest

from skyclaw.outside.paths import host_path, job_path


def test_what_is_below_a_job_or_a_host_follows_its_id() -> None:
    assert job_path("job_1") == "/v1/jobs/job_1"
    assert job_path("job_1", "cancel") == "/v1/jobs/job_1/cancel"
    assert host_path("host_1", "claim") == "/v1/hosts/host_1/claim"


@pytest.mark.parametrize(
    ("typed", "segment"), [("../x", "..%2Fx"), ("a b?c#d", "a%20b%3Fc%23d"), ("ä", "%C3%A4"), ("/v1/jobs/", "%2Fv1%2Fjobs%2F")]
)
def test_an_id_stays_one_segment(typed: str, segment: str) -> None:
    assert job_path(typed, "log") == f"/v1/jobs/{segment}/log"
    assert host_path(typed, "drain") == f"/v1/hosts/{segment}/drain"
