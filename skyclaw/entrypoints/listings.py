"""The verbs that list: jobs, hosts, and everything at a glance."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from skyclaw.entrypoints import option_values, rendering, service_rendering
from skyclaw.entrypoints.finding import PAGE
from skyclaw.entrypoints.session import Session
from skyclaw.errors import UsageWrong

STATES = ("queued", "leased", "completed", "failed", "cancelled")
LATEST = 100  # jobs whose outcome the overview counts


def jobs(session: Session, words: Sequence[str], json: bool = False, all: bool = False, **options: Any) -> int:  # noqa: A002, ARG001 named as typed
    """The jobs, newest first."""
    found = _listed(session, _query(options), None if all else _limit(options))
    if json:
        rendering.show_json({"jobs": found})
        return 0
    if not found:
        rendering.say("no such jobs" if options else "no jobs yet")
        return 0
    names = {host["id"]: host["name"] for host in session.coordinators.get("/v1/hosts")["hosts"]}
    rendering.show_table(("JOB", "STATUS", "AGE", "EXIT", "HOST", "WORK"), [_job_row(job, names) for job in found], {"WORK": 8, "HOST": 6})
    return 0


def hosts(session: Session, words: Sequence[str], json: bool = False) -> int:  # noqa: ARG001
    """The hosts that are known."""
    answer = session.coordinators.get("/v1/hosts")
    if json:
        rendering.show_json(answer)
    elif answer["hosts"]:
        _show_hosts(answer["hosts"])
    else:
        rendering.say("no hosts yet; start one with: skyclaw host")
    return 0


def overview(session: Session, as_json: bool) -> int:
    """Everything at a glance: the coordinator, jobs, hosts, services; `more` names the states of which there are more than counted."""
    ask = session.coordinators.get
    health = ask("/health")
    url, known = session.coordinators.answering, ask("/v1/hosts")["hosts"]
    pages = {state: ask("/v1/jobs", {"status": state, "limit": PAGE}) for state in ("queued", "leased")}
    live = {state: len(page["jobs"]) for state, page in pages.items()}
    more = [state for state, page in pages.items() if page.get("next")]
    services = ask("/v1/services")["services"]
    latest = Counter(job["status"] for job in ask("/v1/jobs", {"limit": LATEST})["jobs"])
    done = {state: latest[state] for state in STATES[2:]}
    if as_json:
        rendering.show_json({"coordinator": health, "jobs": {**live, "more": more, "latest": done}, "hosts": known, "services": services})
        return 0
    rendering.show_facts(
        {
            "coordinator": f"{health.get('nodeId')} at {url}, version {health.get('version', '?')}",
            "health": "; ".join(map(str, health.get("degraded") or ())) or "good",
            "jobs": f"{_count('leased', live, more)} running, {_count('queued', live, more)} waiting; of the latest {LATEST}: "
            + ", ".join(f"{count} {state}" for state, count in done.items()),
            "hosts": f"{sum(bool(host.get('online', True)) for host in known)} online of {len(known)}",
        }
    )
    if known:
        rendering.show()
        _show_hosts(known)
    if services:
        rendering.show()
        service_rendering.show_briefly(services)
    return 0


def _count(state: str, live: Mapping[str, int], more: Sequence[str]) -> str:
    return f"{live[state]}{'+' if state in more else ''}"


def _listed(session: Session, query: str, limit: int | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: str | None = None
    while limit is None or len(found) < limit:
        size = PAGE if limit is None else min(PAGE, limit - len(found))
        page = session.coordinators.get(f"/v1/jobs?{query}", {"limit": size, "after": after})
        found += page["jobs"]
        after = page.get("next")
        if after is None:
            break
    return found


def _query(options: dict[str, Any]) -> str:
    """Which jobs are wanted, as a query string; every label must fit."""
    wanted = option_values.names([options.get("status", "")])
    if "status" in options and not wanted:
        raise UsageWrong(f"--status names no status; write one of {', '.join(STATES)}")
    if unknown := [state for state in wanted if state not in STATES]:
        raise UsageWrong(f"--status={unknown[0]} is not a status; write one of {', '.join(STATES)}")
    labels = option_values.labels("label", options.get("label", ()))
    chosen = [("label", f"{name}={value}") for name, value in labels.items()]
    return urlencode([("status", ",".join(wanted)), *chosen] if wanted else chosen)


def _limit(options: dict[str, Any]) -> int:
    limit = option_values.whole("limit", options.get("limit", "20"))
    if limit < 1:
        raise UsageWrong(f"--limit={limit} must be at least 1; --all lists all")
    return limit


def _job_row(job: dict[str, Any], names: dict[str, str]) -> tuple[object, ...]:
    result, host = job.get("result") or {}, job.get("assignedHostId", "")
    words = rendering.shortened(rendering.job_words(job["payload"]))
    return job["id"], job["status"], rendering.age(job["createdAt"]), result.get("exitCode", ""), names.get(host, host), words


def _show_hosts(known: list[dict[str, Any]]) -> None:
    rows = [
        (
            host["id"],
            host["name"],
            host.get("mode", "active") if host.get("online", True) else "offline",
            f"{host['activeLeases']}/{host['maxParallel']}",
            rendering.age(host["lastSeenAt"]),
            ",".join(host["capabilities"]),
        )
        for host in known
    ]
    rendering.show_table(("HOST", "NAME", "STATE", "JOBS", "SEEN", "CAPABILITIES"), rows, {"CAPABILITIES": 12, "HOST": 14, "NAME": 6})
