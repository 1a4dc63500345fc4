"""`skyclaw doctor`: looks at this machine and at the way to the coordinators; each finding says what to type next."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
import requests

from skyclaw.entrypoints import rendering
from skyclaw.entrypoints.config import problems
from skyclaw.entrypoints.machine_checks import FAIL, OK, WARN, Finding, machine
from skyclaw.entrypoints.session import Session
from skyclaw.entrypoints.settings import ClientSettings, client_settings, coordinator_settings, host_settings
from skyclaw.errors import ServerRefused, SettingsWrong, SkyclawError
from skyclaw.outside.coordinators import Coordinators

TIMEOUT_S = 5.0
REFUSES = "writes are refused"  # in a coordinator's own words: it takes no job
SKEW_S = 5.0  # difference of the clocks that is worth a word


def doctor(session: Session, words: Sequence[str], json: bool = False) -> int:  # noqa: ARG001
    """Print the findings; 1 when one of them is a failure."""
    findings = list(examine(session.environ))
    if json:
        rendering.show_json({"ok": not _failed(findings), "checks": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            advice = f"; {finding.next}" if finding.next else ""
            rendering.show(rendering.safe_line(f"{finding.level:<4}  {finding.check}: {finding.text}{advice}"))
    return int(_failed(findings))


def examine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """All findings, one after the other."""
    wrong = problems(environ)
    yield from (Finding(FAIL, "settings", sentence, "skyclaw config shows them all") for sentence in wrong)
    if not wrong:
        yield Finding(OK, "settings", "readable")
        warnings = (*coordinator_settings(environ).warnings, *host_settings(environ).warnings)
        yield from (Finding(WARN, "settings", sentence) for sentence in dict.fromkeys(warnings))
    yield from machine(environ)
    try:
        client = client_settings(environ)
    except SettingsWrong:
        return
    for url in client.urls:
        yield from coordinator(url, client)


def coordinator(url: str, client: ClientSettings) -> Iterator[Finding]:
    """Whether a coordinator answers there, its health, its clock, and whether it takes our token."""
    name = f"coordinator {url}"
    try:
        answer, sent_at = _health(url), time.time()
        health = orjson.loads(answer.content)
        node = health["nodeId"]
    except requests.RequestException as error:
        yield Finding(FAIL, name, f"does not answer ({type(error).__name__})", "start it with: skyclaw coordinator, or try: skyclaw dev")
        return
    except (ValueError, KeyError, TypeError):
        yield Finding(FAIL, name, "something else than a coordinator answers", "check its address with: skyclaw config")
        return
    yield _condition(name, node, health, answer.status_code)
    yield _clock(name, answer.headers.get("date", ""), sent_at)
    yield _token(name, url, client)


def _health(url: str) -> requests.Response:
    with requests.Session() as http:
        http.trust_env = False
        return http.get(f"{url}/health", timeout=TIMEOUT_S, allow_redirects=False)


def _condition(name: str, node: str, health: Mapping[str, Any], status: int) -> Finding:
    if status != 200 or not health.get("ok"):
        return Finding(FAIL, name, f"{node} is not well: {health.get('actors') or health}", "look at its log and start it again")
    sentences = [str(sentence) for sentence in health.get("degraded") or ()]
    if sentences or not health.get("ready", True):
        level = FAIL if any(REFUSES in sentence for sentence in sentences) else WARN
        return Finding(level, name, f"{node} answers, but {'; '.join(sentences) or 'is not ready'}", "look at its log")
    return Finding(OK, name, f"{node} answers, version {health.get('version', '?')}")


def _clock(name: str, date: str, now: float) -> Finding:
    """The coordinator's clock against ours, to the second, as its Date header has no more."""
    try:
        skew = parsedate_to_datetime(date).timestamp() - now
    except ValueError:
        return Finding(WARN, f"clock of {name}", "it does not say its time")
    if abs(skew) > SKEW_S:
        return Finding(WARN, f"clock of {name}", f"{abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}", "set both clocks by NTP")
    return Finding(OK, f"clock of {name}", "agrees with this machine's")


def _token(name: str, url: str, client: ClientSettings) -> Finding:
    check = f"token at {name}"
    try:
        Coordinators((url,), client.token, timeout_s=TIMEOUT_S).get("/v1/hosts")
    except ServerRefused as refusal:
        if refusal.status in (401, 403):
            found = "is refused" if client.token else "is needed"
            return Finding(FAIL, check, found, "set SKYCLAW_TOKEN or SKYCLAW_TOKEN_FILE to the coordinator's token")
        return Finding(WARN, check, f"could not be checked: {refusal}")
    except SkyclawError as error:
        return Finding(WARN, check, f"could not be checked: {error}")
    return Finding(OK, check, "is accepted" if client.token else "is not needed")


def _failed(findings: Sequence[Finding]) -> bool:
    return any(finding.level == FAIL for finding in findings)
