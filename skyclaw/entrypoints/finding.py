"""Finds the job, host or service that a typed word means: its id, the beginning of its id, or the name of a host or service."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from skyclaw.errors import ServerRefused, UsageWrong
from skyclaw.ids import JOB_ID
from skyclaw.outside.paths import job_path, service_path

if TYPE_CHECKING:
    from skyclaw.outside.coordinators import Coordinators

PAGE = 1_000  # jobs in one answer
PAGES = 10  # answers that are searched for the beginning of an id
SHOWN = 5  # of several ones that are named
OWN_PART = len("job_00000000-")  # of a job's id: what follows the tag of its log
OWN_PART_OF_SERVICE = len("svc_00000000-")
LEAST = 4  # characters of it that are enough


class Advised(ServerRefused):
    """A refusal, and what to type next in the place of what its code would advise."""

    def __init__(self, refusal: ServerRefused, advice: str, error: str = "") -> None:
        super().__init__(refusal.status, refusal.code, error or refusal.error, refusal.details, refusal.retry_after)
        self.advice = advice


def find_job(coordinators: "Coordinators", typed: str) -> dict[str, Any]:
    """The job with that id, or the only one of the latest 10,000 that is meant by its beginning. Raises ServerRefused (404), UsageWrong."""
    try:
        job: dict[str, Any] = coordinators.get(job_path(typed))["job"]
    except ServerRefused as refusal:
        if refusal.status != 404 or JOB_ID.fullmatch(typed):
            raise
        found = [job_id for job_id in _latest_ids(coordinators) if _is_meant(job_id, typed)]
        if not found:
            raise
        if len(found) > 1:
            raise _not_unique(typed, [job_id[OWN_PART:] for job_id in found]) from None
        job = coordinators.get(job_path(found[0]))["job"]
    return job


def _is_meant(job_id: str, typed: str) -> bool:
    """Whether the id begins so, with or without `job_`; or the part after its log's tag, which ids of one coordinator have in common."""
    return job_id.startswith((typed, f"job_{typed}")) or (len(typed) >= LEAST and job_id.startswith(typed, OWN_PART))


def _latest_ids(coordinators: "Coordinators") -> Iterator[str]:
    after: str | None = None
    for _ in range(PAGES):
        page = coordinators.get("/v1/jobs", {"limit": PAGE, "after": after})
        yield from (str(job["id"]) for job in page["jobs"])
        after = page.get("next")
        if after is None:
            return


def find_service(coordinators: "Coordinators", typed: str) -> dict[str, Any]:
    """The service with that id or name, or the only one whose id begins so. Raises ServerRefused (404), UsageWrong."""
    typed = typed.rstrip("\N{HORIZONTAL ELLIPSIS}")  # as a narrow table ends it
    try:
        service: dict[str, Any] = coordinators.get(service_path(typed))["service"]
    except ServerRefused as refusal:
        if refusal.status != 404:
            raise
        ids = (str(service["id"]) for service in coordinators.get("/v1/services")["services"])
        found = [service_id for service_id in ids if _is_meant_service(service_id, typed)]
        if not found:
            raise
        if len(found) > 1:
            raise _not_unique(typed, found) from None
        service = coordinators.get(service_path(found[0]))["service"]
    return service


def find_job_or_service(coordinators: "Coordinators", typed: str) -> dict[str, Any]:
    """The job or service that is meant; a service's whole name comes before the beginning of a job's id. Raises as the two others do."""
    if typed.startswith("svc_"):
        return find_service(coordinators, typed)
    if not typed.startswith("job_"):
        try:
            service: dict[str, Any] = coordinators.get(service_path(typed))["service"]
        except ServerRefused as refusal:
            if refusal.status != 404:
                raise
        else:
            return service
    try:
        return find_job(coordinators, typed)
    except ServerRefused as refusal:
        if refusal.status != 404 or typed.startswith("job_"):
            raise
        advice = "skyclaw jobs lists the jobs, skyclaw list-services the services"
        raise Advised(refusal, advice, f"there is neither a job nor a service {typed}") from refusal


def _is_meant_service(service_id: str, typed: str) -> bool:
    """Whether the id begins so, with or without `svc_`, or the part after its log's tag; names have to be typed in full."""
    own = typed.removeprefix("svc_")
    return len(own) >= LEAST and (service_id.startswith(f"svc_{own}") or service_id.startswith(typed, OWN_PART_OF_SERVICE))


def find_host(coordinators: "Coordinators", typed: str) -> str:
    """The id of the host with that id or name, or of the only one whose id or name begins so; what was typed when there is none."""
    typed = typed.rstrip("\N{HORIZONTAL ELLIPSIS}")  # as a narrow table ends it
    hosts = coordinators.get("/v1/hosts")["hosts"]
    exact = [str(host["id"]) for host in hosts if typed in (host["id"], host["name"])]
    found = exact or [str(host["id"]) for host in hosts if str(host["id"]).startswith(typed) or str(host["name"]).startswith(typed)]
    if len(found) > 1:
        raise _not_unique(typed, found)
    return found[0] if found else typed


def listed(found: Sequence[str]) -> str:
    """The first ones, and how many more there are."""
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{', '.join(found[:SHOWN])}{more}"


def _not_unique(typed: str, found: list[str]) -> UsageWrong:
    return UsageWrong(f"{typed} is not unique; type more of one of these: {listed(found)}")
