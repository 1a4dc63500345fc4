"""`skyclaw service-logs`: what the instances of a service write, as far as it is kept, and from then on with --follow.

Instances that have ended are left out, unless none lives: then the one that wrote last is shown. --instance and --all ask for others, too.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from skyclaw.entrypoints import option_values, rendering
from skyclaw.entrypoints.finding import find_service, listed
from skyclaw.entrypoints.session import Session, tell
from skyclaw.entrypoints.waiting import INTERRUPTED, PATIENCE_S, TROUBLE_AFTER_S
from skyclaw.errors import ServerRefused, Unreachable, UsageWrong
from skyclaw.outside.paths import service_path

PAUSE_S = 0.5
PIECE = 256 * 1024  # bytes of each instance in an answer: as much as is kept
MOST_LINES = 1_000_000
SHOWN_OF_ID = len("ins_00000000-0000")  # enough to tell the instances of one service apart


def service_logs(session: Session, words: Sequence[str], **options: Any) -> int:
    """Print what is kept; with `follow` go on until Ctrl-C (130), or until the service is gone."""
    lines = option_values.whole("lines", options["lines"], 0, MOST_LINES) if "lines" in options else None
    if options.get("json") and options.get("follow"):
        raise UsageWrong("service-logs: --json prints what there is, it does not follow; leave out --json or --follow")
    found = find_service(session.coordinators, words[0])
    reading = _Reading(session, found, options.get("instance"), bool(options.get("all")))
    if options.get("json"):
        answer = reading.ask()
        rendering.show_json(answer if lines is None else {**answer, "instances": [_cut(one, lines) for one in answer["instances"]]})
        return 0
    printer = _Printer(bool(options.get("raw")))
    try:
        pieces = reading.pieces()
        printer.print(pieces if lines is None else _last(pieces, lines), reading.several)
        while options.get("follow"):
            time.sleep(PAUSE_S)
            printer.print(reading.patiently(), reading.several)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        printer.finish()
    return 0


Piece = tuple[str, str]  # an instance's id, and text that it wrote


class _Reading:
    """Asks for the output from where the last answer ended; of the instances whose ids begin with `instance`, or of those that live."""

    def __init__(self, session: Session, service: Mapping[str, Any], instance: str | None, ended: bool) -> None:
        self._session, self._path, self._instance = session, service_path(service["id"], "log"), instance
        self._service = service
        self._ended = ended or instance is not None
        self._left_out: set[str] = set()
        self._after: str | None = None
        self._heard, self._told = time.monotonic(), ""
        self.several = False

    def ask(self) -> dict[str, Any]:
        """The next answer of the coordinator. Raises UsageWrong when there is no such instance."""
        first, answer = self._after is None, self._session.coordinators.get(self._path, {"after": self._after, "limit": PIECE})
        self._after, self._heard, self._told = answer.get("next", self._after), time.monotonic(), ""
        if first and self._instance is not None:
            self._require_instance(self._instance, answer["instances"])
        if first and not self._ended:
            self._left_out = _ended(answer["instances"])
        shown = [one for one in answer["instances"] if one["instanceId"] not in self._left_out]
        answer["instances"] = [one for one in shown if one["instanceId"].startswith(self._instance or "")]
        self.several = self.several or len(answer["instances"]) > 1
        return answer

    def _require_instance(self, typed: str, instances: Sequence[dict[str, Any]]) -> None:
        known = dict.fromkeys(str(one["instanceId"]) for one in (*instances, *self._service["assignments"]) if "instanceId" in one)
        if not any(instance_id.startswith(typed) for instance_id in known):
            there = f"there are {listed(list(known))}" if known else "it has none"
            raise UsageWrong(f"{self._service['name']} has no instance whose id begins with {typed}; {there}")

    def pieces(self) -> list[Piece]:
        """What was written since, or at first all that is kept."""
        return [(str(one["instanceId"]), str(one["text"])) for one in self.ask()["instances"]]

    def patiently(self) -> list[Piece]:
        """The same; nothing while no coordinator answers, for a while."""
        try:
            return self.pieces()
        except (Unreachable, ServerRefused) as trouble:
            if (isinstance(trouble, ServerRefused) and trouble.status < 500) or time.monotonic() - self._heard > PATIENCE_S:
                raise
            if time.monotonic() - self._heard > TROUBLE_AFTER_S and str(trouble) != self._told:
                self._told = str(trouble)
                tell(self._told)
            return []


class _Printer:
    """Prints whole lines, each with its instance in front as soon as there are several; foreign text does not steer a terminal."""

    def __init__(self, raw: bool) -> None:
        self._raw, self._several = raw, False
        self._rest: dict[str, str] = {}  # of each instance, the line that it has not ended yet

    def print(self, pieces: Sequence[Piece], several: bool) -> None:
        """Print what has become complete."""
        self._several = several
        for instance, text in pieces:
            *lines, self._rest[instance] = (self._rest.get(instance, "") + text).split("\n")
            for line in lines:
                self._line(instance, line)

    def finish(self) -> None:
        """Print the lines that have no end."""
        for instance, line in self._rest.items():
            if line:
                self._line(instance, line)
        self._rest.clear()

    def _line(self, instance: str, line: str) -> None:
        front = f"{instance[:SHOWN_OF_ID]}  " if self._several else ""
        rendering.pour(f"{front}{line}\n", sys.stdout, self._raw)


def _ended(instances: Sequence[dict[str, Any]]) -> set[str]:
    """The ids of those that have ended, but of the one that wrote last when all have."""
    ended = [str(one["instanceId"]) for one in instances if one["status"] == "ended"]
    return set(ended if len(ended) < len(instances) else ended[:-1])


def _last(pieces: Sequence[Piece], count: int) -> list[Piece]:
    """The last lines of each instance."""
    texts: dict[str, str] = {}
    for instance, text in pieces:
        texts[instance] = texts.get(instance, "") + text
    return [(instance, _tail(text, count)) for instance, text in texts.items()]


def _cut(instance: dict[str, Any], count: int) -> dict[str, Any]:
    """An instance in an answer, with its last lines only; its text has as many bytes as there are from `from` to `end`."""
    text = _tail(str(instance["text"]), count)
    return {**instance, "text": text, "from": instance["end"] - len(text.encode())}


def _tail(text: str, count: int) -> str:
    lines, end = text.removesuffix("\n").split("\n"), "\n" if text.endswith("\n") else ""
    return "\n".join(lines[len(lines) - min(count, len(lines)) :]) + end if count else ""
