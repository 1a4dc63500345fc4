"""`skyclaw import`: takes over what a coordinator of the TypeScript version has, its hosts, jobs and services, as often as one likes.

A service is deployed under its name, unless there is one of that name here; of several there with one name the newest one is.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from environs import ValidationError

from skyclaw.entrypoints import cli, rendering, setting_values
from skyclaw.entrypoints.session import Session, tell
from skyclaw.errors import NotACoordinator, ServerRefused, Unreachable, UsageWrong
from skyclaw.outside.coordinators import Coordinators
from skyclaw.outside.foreign_state import fetch

PAGE_RECORDS, PAGE_BYTES = 200, 3 * 1024 * 1024
LARGEST_OUTPUT, CUT = 1024 * 1024, "\n[output truncated]\n"  # characters of one stream
TIMEOUT_S, PATIENCE_S = 30.0, 60.0
SHOWN = 10  # refused records that are named
INVALID = 400
OF_A_SERVICE = ("name", "command", "args", "cwd", "env", "replicas", "requiredCapabilities")
KINDS = {"queued": "queued", "leased": "queued", "completed": "finished", "failed": "finished"}


@dataclass(slots=True)
class Tally:
    """What was found, and what of it was new."""

    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("hosts", "queued", "finished", "services"), 0))
    new: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("hosts", "queued", "finished", "services"), 0))
    leased: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """The summary, as one line."""
        parts = [f"{name} {self.found[name]:,} ({self.new[name]:,} new)" for name in self.new]
        refused = [f"refused {len(self.refused):,}"] if self.refused else []
        return ", ".join([*parts, *refused])


def import_state(session: Session, words: Sequence[str], token: str = "", json: bool = False) -> int:
    """Take everything over page by page; 1 when some of it could not be understood."""
    source = _address(words[0])
    try:
        _refuse_own_kind(source, token)
        state = fetch(source, "/v1/state", token or None)
    except (Unreachable, NotACoordinator) as failure:  # not of the coordinator that the settings name
        rendering.say(f"{failure}; start the other coordinator, or name its address")
        return cli.exit_code(failure)
    hosts, jobs, services = (_records(state, name) for name in ("hosts", "jobs", "services"))
    tally = Tally()
    tally.found |= {"hosts": len(hosts), "services": len(services)}
    tally.leased = sum(job.get("status") == "leased" for job in jobs)
    ours = Coordinators(session.settings.urls, session.settings.token, TIMEOUT_S, PATIENCE_S, tell=tell)
    try:
        _take_over(ours, str(state.get("nodeId") or source)[:256], hosts, jobs, tally)
        _deploy(ours, services, tally)
    except KeyboardInterrupt:
        rendering.say(f"so far: {tally.sentence}; the same command goes on from here")
        raise
    finally:
        ours.close()
    _show(tally, json)
    return 1 if tally.refused else 0


def _address(typed: str) -> str:
    try:
        return setting_values.address(typed)
    except ValidationError as wrong:
        raise UsageWrong(f"{typed} is not the address of a coordinator; write one like http://127.0.0.1:8787") from wrong


def _refuse_own_kind(source: str, token: str) -> None:
    """Our own coordinators share their logs; their state is only what is live, and the latest."""
    try:
        health = fetch(source, "/health", token or None)
    except ServerRefused as refusal:
        if refusal.status in (401, 403):
            raise UsageWrong(f"{source} wants another token; give its own one with --token") from None
        return
    if "log" in health:
        raise UsageWrong(f"{source} is a coordinator of this version: it shares its logs once it is a peer; try: skyclaw join {source}")


def _records(state: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = state.get(name, [])
    return [record for record in found if isinstance(record, dict)] if isinstance(found, list) else []


def _take_over(ours: Coordinators, source: str, hosts: list[dict[str, Any]], jobs: list[dict[str, Any]], tally: Tally) -> None:
    for page in _pages(hosts):
        answer = ours.post("/v1/import", {"source": source, "hosts": page})
        tally.new["hosts"] += len(answer["new"]["hosts"])
        tally.refused += answer["refused"]
    for page in _pages(sorted((_bounded(job) for job in jobs), key=lambda job: str(job.get("createdAt", "")))):
        answer = ours.post("/v1/import", {"source": source, "jobs": page})
        kinds = {str(job.get("id")): KINDS.get(str(job.get("status"))) for job in page}
        for kind in filter(None, kinds.values()):
            tally.found[kind] += 1
        for kind in filter(None, map(kinds.get, answer["new"]["jobs"])):
            tally.new[kind] += 1
        tally.refused += answer["refused"]


def _deploy(ours: Coordinators, services: list[dict[str, Any]], tally: Tally) -> None:
    if not services:
        return
    known = {service["name"] for service in ours.get("/v1/services")["services"]}
    newest = {service.get("name"): service for service in sorted(services, key=lambda one: str(one.get("createdAt", "")))}
    for name, service in newest.items():
        if name in known:
            continue
        asked = {field: service[field] for field in OF_A_SERVICE if field in service}
        try:
            ours.post("/v1/services", asked, key=f"import-{hashlib.sha256(orjson.dumps(service)).hexdigest()}")
        except ServerRefused as refusal:
            if refusal.status != INVALID:
                raise
            tally.refused.append({"id": str(service.get("id") or name), "error": refusal.error})
        else:
            tally.new["services"] += 1


def _pages(records: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The records in lists that fit into one request."""
    page: list[dict[str, Any]] = []
    size = 0
    for record in records:
        length = len(orjson.dumps(record))
        if page and (len(page) >= PAGE_RECORDS or size + length > PAGE_BYTES):
            yield page
            page, size = [], 0
        page.append(record)
        size += length
    if page:
        yield page


def _bounded(job: dict[str, Any]) -> dict[str, Any]:
    """The job, of whose outputs only so much is kept as fits into a request."""
    result = job.get("result")
    if not isinstance(result, dict):
        return job
    cut = {
        name: f"{text[: LARGEST_OUTPUT - len(CUT)]}{CUT}"
        for name in ("stdout", "stderr")
        if isinstance(text := result.get(name), str) and len(text) > LARGEST_OUTPUT
    }
    return {**job, "result": {**result, **cut}} if cut else job


def _show(tally: Tally, as_json: bool) -> None:
    if as_json:
        rendering.show_json({"found": tally.found, "new": tally.new, "leased": tally.leased, "refused": tally.refused})
        return
    rendering.show(tally.sentence)
    if tally.leased:
        rendering.say(
            f"{tally.leased:,} of the queued jobs were running there, and will run here again: stop the hosts of the old coordinator"
        )
    for record in tally.refused[:SHOWN]:
        rendering.say(f"refused {record['id'] or 'a record'}: {record['error']}")
    if len(tally.refused) > SHOWN:
        rendering.say(f"and {len(tally.refused) - SHOWN:,} more; --json names them all")
