"""The verbs that enqueue: they print the job's id alone, so that a script can keep it."""

from collections.abc import Mapping, Sequence
from typing import Any

from skyclaw.entrypoints import option_values, rendering
from skyclaw.entrypoints.session import Session


def enqueue_shell(session: Session, words: Sequence[str], **options: Any) -> int:
    """A command for any host that offers `shell`."""
    return _enqueued(session, shell(words, options), options)


def enqueue_openclaw(session: Session, words: Sequence[str], **options: Any) -> int:
    """A run of OpenClaw with exactly these arguments."""
    return _enqueued(session, request({"kind": "openclaw-run", "args": list(words)}, "openclaw", options), options)


def enqueue_automaton(session: Session, words: Sequence[str], **options: Any) -> int:
    """A run of Automaton with exactly these arguments."""
    return _enqueued(session, request({"kind": "automaton-run", "args": list(words)}, "automaton", options), options)


def _enqueued(session: Session, body: Mapping[str, Any], options: Mapping[str, Any]) -> int:
    job = submit(session, body, options)
    if options.get("json"):
        rendering.show_json(job)
    else:
        rendering.show(rendering.safe_line(job["id"]))
    return 0


def submit(session: Session, body: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Enqueue, and give back the job. The key, drawn when none is given, makes a repetition at another coordinator harmless."""
    job: dict[str, Any] = session.coordinators.post("/v1/jobs", body, key=options.get("key"))["job"]
    return job


def shell(words: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The request for a shell job."""
    payload: dict[str, Any] = {"kind": "shell", "command": words[0], "args": list(words[1:])}
    if "cwd" in options:
        payload["cwd"] = options["cwd"]
    return request(payload, "shell", options)


def request(payload: dict[str, Any], capability: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of POST /v1/jobs; what was not given is left out. Raises UsageWrong."""
    if "env" in options:
        payload["env"] = option_values.pairs("env", options["env"])
    body: dict[str, Any] = {
        "payload": payload,
        "requirement": {"requiredCapabilities": option_values.capabilities("cap", [capability, *options.get("cap", ())])},
    }
    for option, field, low, high in (("priority", "priority", -1_000, 1_000), ("max_attempts", "maxAttempts", 1, 100)):
        if option in options:
            body[field] = option_values.whole(option.replace("_", "-"), options[option], low, high)
    if "timeout" in options:
        body["timeoutMs"] = option_values.duration_ms("timeout", options["timeout"])
    if "not_before" in options:
        body["notBefore"] = option_values.moment("not-before", options["not_before"])
    if "label" in options:
        body["labels"] = option_values.labels("label", options["label"])
    return body
