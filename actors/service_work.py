"""The instances of services that a host has, each with its life, its process, its port and its folder.

A plain class that ServiceSupervisor owns. Nothing in it waits for a coordinator, a probe or a process; only an executor that has died is
started again by the next process, which takes some 10 s at most.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from actors.service_board import ServiceBoard, Shown
from actors.service_helpers import ServiceHelpers
from actors.service_messages import ProbeAnswered, Synced, Unpacked
from skyclaw.hosting import service_life, service_payloads
from skyclaw.hosting.last_words import PRINTED_BYTES, ending, one_line
from skyclaw.hosting.payloads import Means
from skyclaw.hosting.service_life import Do, Drain, Event, Exited, Life, Passed, Phase, Prepared, Probed, Stop, Unprepared
from skyclaw.hosting.service_payloads import Wanted
from skyclaw.outside.orders import EXECUTOR_DIED, Ended, ServiceOrder
from skyclaw.trust.command_policy import CommandRefused

logger = logging.getLogger(__name__)

NO_PORT = "no free port on this host"
MOST_REASON = 1_000  # characters
GRACE_MS = 10_000  # between TERM and KILL


@dataclass(slots=True)
class Held:
    """An instance that this host has; `run_id` names its latest process, which `served` when it was healthy."""

    wanted: Wanted
    life: Life
    output: Path
    port: int | None = None
    served: bool = False
    run_id: str | None = None


class ServiceWork:
    """Does what the lives of the instances ask for. Times are ms of the host's clock."""

    def __init__(
        self, means: Means, most: int, started_in: str, helpers: ServiceHelpers, board: ServiceBoard, say: Callable[[str], None]
    ) -> None:
        self._means, self._most, self._started_in = means, most, started_in
        self._helpers, self._board, self._say = helpers, board, say
        self._held: dict[str, Held] = {}
        self._by_run: dict[str, str] = {}  # run_id -> instance id
        self._left = set(helpers.folders.left())
        self._leaving = False

    @property
    def idle(self) -> bool:
        """Whether there is no instance."""
        return not self._held

    @property
    def running(self) -> bool:
        """Whether a process lives."""
        return any(held.life.has_process for held in self._held.values())

    def synced(self, synced: Synced, now: int) -> None:
        """The coordinators have answered: begin and end instances, and forget those of which everything is told."""
        answer = synced.answer
        listed = {wanted.instance_id: wanted for wanted in answer.wanted}
        for instance_id, held in list(self._held.items()):
            wanted, told = listed.get(instance_id), synced.told.get(instance_id)
            if wanted is None and (instance_id in answer.stop or answer.speaks_for(instance_id)):
                self._let_go(held, now)
            elif told == service_life.ENDED and self._leaving:
                self._forget(held)
            elif told == service_life.ENDED and wanted is not None and not wanted.draining:
                del self._held[instance_id]  # it is wanted again, and begins anew in its folder
        for wanted in answer.wanted:
            self._want(wanted, now)
        for instance_id in [left for left in self._left if answer.speaks_for(left) and left not in listed]:
            self._left.discard(instance_id)
            self._helpers.remove(instance_id)
        self._show()

    def ended(self, ended: Ended, now: int) -> None:
        """A process has ended."""
        held = self._held.get(self._by_run.pop(ended.run_id, ""))
        if held is None:
            return
        own_fault = ended.error is not None and ended.error.startswith(EXECUTOR_DIED)
        self._tell(held, Exited(held.life.run, _how(ended, held.wanted), counts=not own_fault), now)
        self._show()

    def probed(self, probed: ProbeAnswered, now: int) -> None:
        """A probe has come back."""
        if held := self._held.get(probed.instance_id):
            self._tell(held, Probed(probed.run, probed.error), now)
            self._show()

    def unpacked(self, unpacked: Unpacked, now: int) -> None:
        """A bundle is in its instance's folder, or is not."""
        held = self._held.get(unpacked.instance_id)
        if held is None:  # it was forgotten meanwhile
            self._helpers.remove(unpacked.instance_id)
            return
        self._tell(held, Prepared() if unpacked.error is None else Unprepared(unpacked.error, unpacked.for_good), now)
        self._show()

    def pass_time(self, now: int) -> None:
        """Do what is due."""
        for held in list(self._held.values()):
            self._tell(held, Passed(), now)
        self._show()

    def leave(self, now: int) -> None:
        """End everything at once, and take nothing more."""
        self._leaving = True
        for held in list(self._held.values()):
            self._tell(held, Stop(), now)
        self._show()

    def hurry(self) -> None:
        """Wait for nothing any more."""
        self._helpers.end_processes()

    def _want(self, wanted: Wanted, now: int) -> None:
        held = self._held.get(wanted.instance_id)
        if held is None and not self._leaving:
            held = self._begin(wanted, now)
        if held is not None and wanted.draining:
            self._tell(held, Drain(), now)

    def _begin(self, wanted: Wanted, now: int) -> Held:
        """Take an instance; one that is to end already ends without having begun, so that the coordinators can be told."""
        self._left.discard(wanted.instance_id)
        output = self._helpers.folders.output(wanted.instance_id)
        held = self._held[wanted.instance_id] = Held(wanted, Life(wanted.terms), output)
        if not wanted.draining and sum(not other.life.over for other in self._held.values()) > self._most:
            self._tell(held, Unprepared(f"this host takes {self._most} instances", for_good=True), now)
        elif not wanted.draining:
            self._prepare(held, now)
        return held

    def _let_go(self, held: Held, now: int) -> None:
        """It is not wanted: forget it if it is over, and end it otherwise."""
        if held.life.over:
            self._forget(held)
        else:
            self._tell(held, Stop(), now)

    def _forget(self, held: Held) -> None:
        del self._held[held.wanted.instance_id]
        self._helpers.remove(held.wanted.instance_id)

    def _tell(self, held: Held, event: Event, now: int) -> None:
        """Let an event come into a life, and do what follows."""
        before = held.life
        held.life, orders = service_life.after(before, event, now)
        held.served = held.served or held.life.phase is Phase.RUNNING
        self._mention(held, before)
        for order in orders:
            self._do(held, order, now)

    def _do(self, held: Held, order: Do, now: int) -> None:
        match order:
            case Do.PREPARE:
                self._prepare(held, now)
            case Do.START:
                self._start(held, now)
            case Do.PROBE if held.port is not None:
                self._helpers.probe(held.wanted.instance_id, held.life.run, held.port, held.wanted.health_path)
            case Do.TERMINATE if held.run_id is not None:
                self._helpers.executor.kill(held.run_id, held.life.error or "not wanted any more")

    def _prepare(self, held: Held, now: int) -> None:
        instance_id, bundle = held.wanted.instance_id, held.wanted.bundle
        try:
            service_payloads.launch(held.wanted, 0, "/", self._means)
            self._helpers.folders.make(instance_id)
        except CommandRefused as refusal:
            self._tell(held, Unprepared(str(refusal), for_good=True), now)
        except OSError as error:
            self._tell(held, Unprepared(f"no folder for it: {os.strerror(error.errno or 0)}", for_good=False), now)
        else:
            if bundle is None:
                self._tell(held, Prepared(), now)
            else:
                self._helpers.unpack(instance_id, bundle)

    def _start(self, held: Held, now: int) -> None:
        others = (other for other in self._held.values() if other is not held and not other.life.over)
        taken = {other.port for other in others if other.port is not None}
        held.port, held.served = self._helpers.free_port(held.port, held.served, taken), False
        held.run_id = f"{held.wanted.instance_id}-{os.urandom(4).hex()}"
        if held.port is None:
            self._tell(held, Exited(held.life.run, NO_PORT, counts=False), now)
            return
        folder = self._started_in if held.wanted.bundle is None else str(self._helpers.folders.content(held.wanted.instance_id))
        launch = service_payloads.launch(held.wanted, held.port, folder, self._means)
        self._by_run[held.run_id] = held.wanted.instance_id
        self._helpers.executor.run(
            ServiceOrder(
                run_id=held.run_id,
                argv=launch.argv,
                env=launch.env,
                cwd=str(launch.cwd),
                instance_id=held.wanted.instance_id,
                output=str(held.output),
                last_bytes=PRINTED_BYTES,
                grace_ms=GRACE_MS,
            )
        )

    def _mention(self, held: Held, before: Life) -> None:
        """Say what has become of an instance."""
        name, life = f"service {held.wanted.name} revision {held.wanted.revision}", held.life
        if life.status != before.status:
            match life.phase:
                case Phase.RUNNING:
                    self._say(f"[skyclaw] {name} running on port {held.port}")
                case Phase.FAILED:
                    self._say(f"[skyclaw] {name} failed: {life.error}")
                case Phase.ENDED:
                    self._say(f"[skyclaw] {name} ended")
        if life.phase is Phase.PAUSING is not before.phase:
            logger.warning("service_begins_again instance=%s error=%s", held.wanted.instance_id, life.error)

    def _show(self) -> None:
        self._board.put(
            tuple(
                Shown(instance_id, held.life.status, held.port if held.life.has_process else None, _reason(held.life), held.output)
                for instance_id, held in self._held.items()
            )
        )


def _how(ended: Ended, wanted: Wanted) -> str:
    """How a process ended, in words."""
    return ended.error or ending(ended.exit_code, ended.signal, ended.stdout, not ended.truncated, wanted.env_values())


def _reason(life: Life) -> str | None:
    """Why there is no healthy process, as it can be sent: it may have names of files in it, which are not always text."""
    return None if life.error is None else one_line(life.error, MOST_REASON)
