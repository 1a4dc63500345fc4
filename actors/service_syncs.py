"""The thread that tells the coordinators how the services of this host are, and hears which ones are wanted."""

from collections.abc import Iterator, Mapping
from typing import Any

from actors.host_loops import Loop, Tell, is_unknown_host
from actors.host_messages import HostUnknown
from actors.service_board import ServiceBoard, Shown
from actors.service_messages import Synced
from actors.ticker import Tick
from skyclaw.errors import ServerRefused
from skyclaw.hosting import service_payloads
from skyclaw.hosting.service_life import ENDED, FAILED
from skyclaw.hosting.service_output import as_text, whole_characters
from skyclaw.outside import rotating
from skyclaw.outside.coordinators import Coordinators
from skyclaw.outside.paths import host_path

MOST_S, LEASE_PARTS = 2.0, 4  # between two syncs
IDLE_S = 5.0  # while there is no instance: claims and heartbeats tell of the first one
MORE_S = 0.2  # while more output waits
OUTPUT_BYTES = 32 * 1024  # of an instance in one sync
ALL_OUTPUT_BYTES = 512 * 1024  # of all of them
KEPT_BYTES = 256 * 1024  # what the coordinators keep of an instance's output: what is older is not worth sending
PULSE_S = 0.1
NO_SUCH_ROUTE = "not_found"


class SyncLoop(Loop):
    """Tells what is on the board whenever that changes, and often enough for the leases; the answers go to ServiceSupervisor.

    `base_url` is the address under which this host's services are reached, without their port; None leaves that to the coordinator, which
    knows where the host is. `tell_agent` hears that a coordinator does not know the host.
    """

    def __init__(
        self, coordinators: Coordinators, host_id: str, board: ServiceBoard, base_url: str | None, tell: Tell, tell_agent: Tell
    ) -> None:
        super().__init__("service-syncs", most_s=1.0)
        self._coordinators, self._path = coordinators, host_path(host_id, "services", "sync")
        self._board, self._base_url, self._tell, self._tell_agent = board, base_url, tell, tell_agent
        self._output_at: Mapping[str, int] = {}
        self._digest: str | None = None
        board.nudges.append(self.nudge)

    def hear(self, answer: Mapping[str, Any]) -> None:
        """The answer to a claim or a heartbeat may say that other services are wanted."""
        digest = answer.get("services")
        if digest is not None and digest != self._digest:
            self.nudge()

    def once(self) -> float:
        self.gather(lambda: False)
        shown = self._board.shown
        room = min(OUTPUT_BYTES, ALL_OUTPUT_BYTES // max(1, len(shown)))
        outputs = dict(self._outputs(shown, room))
        body = {"instances": [self._on_the_wire(instance, outputs.get(instance.instance_id)) for instance in shown]}
        try:
            answer = service_payloads.answer(self._coordinators.post(self._path, body))
        except ServerRefused as refusal:
            if refusal.code != NO_SUCH_ROUTE:
                raise
            return IDLE_S  # a coordinator that knows nothing of services
        if answer.partial:
            self._coordinators.turn_to_the_next()
        self._output_at, self._digest = answer.output_at, answer.digest
        self._tell(Synced({instance.instance_id: instance.status for instance in shown}, answer))
        if any(len(data) >= room for _, data in outputs.values()):
            return MORE_S
        return min(MOST_S, answer.lease_ms / 1000 / LEASE_PARTS) if shown or answer.wanted else IDLE_S

    def failed(self, error: Exception) -> None:
        if is_unknown_host(error):
            self._tell_agent(HostUnknown())

    def _outputs(self, shown: tuple[Shown, ...], room: int) -> Iterator[tuple[str, tuple[int, bytes]]]:
        """The next bytes of each instance whose output is wanted, with their offset."""
        for instance in shown:
            if (at := self._output_at.get(instance.instance_id)) is None:
                continue
            try:
                kept = room if instance.status in (ENDED, FAILED) else KEPT_BYTES  # its last words are told while there is time
                at, data = rotating.read(instance.output, max(at, rotating.end(instance.output) - kept), room)
            except OSError:  # it has not begun, or who prints it has made its folder unreadable: the others are told of nevertheless
                continue
            if data:
                yield instance.instance_id, (at, data)

    def _on_the_wire(self, instance: Shown, output: tuple[int, bytes] | None) -> dict[str, Any]:
        """An instance as the request lists it."""
        said: dict[str, Any] = {"instanceId": instance.instance_id, "status": instance.status}
        if instance.port is not None:
            said["port"] = instance.port
            if self._base_url is not None:
                said["endpoint"] = f"{self._base_url}:{instance.port}"
        if instance.error is not None:
            said["error"] = instance.error
        if output is not None:
            at, data = output
            said["output"] = {"at": at, "text": as_text(whole_characters(data))}
        return said


class PulseLoop(Loop):
    """Tells ServiceSupervisor that time passes, while there is an instance for which it matters."""

    def __init__(self, board: ServiceBoard, tell: Tell) -> None:
        super().__init__("service-pulse")
        self._board, self._tell = board, tell
        board.nudges.append(self.nudge)

    def has_work(self) -> bool:
        return bool(self._board.shown)

    def once(self) -> float:
        self._tell(Tick())
        return PULSE_S
