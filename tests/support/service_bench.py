"""The services of a host with everything around them at hand, to be moved step by step: what helpers are asked for is only written down."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from actors.service_board import ServiceBoard, Shown
from actors.service_messages import ProbeAnswered, Synced
from actors.service_supervisor import ServiceSupervisor
from actors.service_work import ServiceWork
from skyclaw.hosting import service_payloads
from skyclaw.outside.orders import Ended, ServiceOrder
from tests.support.host_bench import MEANS

TAG = "0a1b2c3d"
INSTANCE = f"ins_{TAG}00000001"


class Recorder:
    """Stands where the helpers, their executor and their folders are."""

    def __init__(self, left: Collection[str] = ()) -> None:
        self.executor = self.folders = self
        self.orders: list[ServiceOrder] = []
        self.killed: list[str] = []
        self.probes: list[tuple[str, int, int, str | None]] = []
        self.unpacked: list[tuple[str, str]] = []
        self.removed: list[str] = []
        self.asked_ports: list[tuple[int | None, bool]] = []
        self.ports = [3_100, 3_101, 3_102]
        self.broken_folders = self.in_a_hurry = False
        self._left = list(left)

    def run(self, order: ServiceOrder) -> None:
        self.orders.append(order)

    def kill(self, run_id: str, reason: str) -> None:
        assert reason
        self.killed.append(run_id)

    def left(self) -> list[str]:
        return self._left

    def output(self, instance_id: str) -> Path:
        return Path("/services") / instance_id / "output"

    def content(self, instance_id: str) -> Path:
        return Path("/services") / instance_id / "files"

    def make(self, instance_id: str) -> None:
        if self.broken_folders:
            raise OSError(28, instance_id)

    def probe(self, instance_id: str, run: int, port: int, path: str | None) -> None:
        self.probes.append((instance_id, run, port, path))

    def unpack(self, instance_id: str, bundle: str) -> None:
        self.unpacked.append((instance_id, bundle))

    def remove(self, instance_id: str) -> None:
        self.removed.append(instance_id)

    def free_port(self, former: int | None, served: bool, taken: Collection[int]) -> int | None:
        self.asked_ports.append((former, served))
        return former or next((port for port in self.ports if port not in taken), None)

    def end_processes(self) -> None:
        self.in_a_hurry = True


class ServiceBench:
    """`now` is the clock; what the supervisor is told is handled at once."""

    def __init__(self, most: int = 3, left: Collection[str] = ()) -> None:
        self.helpers, self.board = Recorder(left), ServiceBoard()
        self.said, self.broken, self.idle, self.now = list[str](), list[str](), list[bool](), 0
        self.work = ServiceWork(MEANS, most, "/started/here", self.helpers, self.board, self.said.append)  # type: ignore[arg-type]
        self.actor = ServiceSupervisor(self.work, lambda: self.now, lambda: self.idle.append(True), self.broken.append)

    def sync(
        self, *wanted: dict[str, Any], logs: Collection[str] = (TAG,), stop: Collection[str] = (), told: dict[str, str] | None = None
    ) -> None:
        """The coordinators have answered what is on the board, or what was `told`."""
        answer = service_payloads.answer({"instances": list(wanted), "logs": list(logs), "stop": list(stop)})
        shown = {instance.instance_id: instance.status for instance in self.board.shown}
        self.actor.handle(Synced(shown if told is None else told, answer))

    def tell(self, message: object) -> None:
        self.actor.handle(message)

    def healthy(self, instance_id: str = INSTANCE, run: int = 1, error: str | None = None) -> None:
        self.tell(ProbeAnswered(instance_id, run, error))

    def end(self, error: str | None = None, number: int = -1, signal: str | None = None, code: int = 1, said: str = "") -> None:
        """The process of an order has ended; of the last one unless it is said."""
        run_id = self.helpers.orders[number].run_id
        self.tell(Ended(run_id, code, signal, False, None, 5, said, "", 0, 0, False, error))

    def shown(self, instance_id: str = INSTANCE) -> Shown | None:
        return next((shown for shown in self.board.shown if shown.instance_id == instance_id), None)

    def status(self, instance_id: str = INSTANCE) -> str | None:
        """What is told of an instance; None when there is no such instance."""
        shown = self.shown(instance_id)
        return shown.status if shown is not None else None


def wanted(instance_id: str = INSTANCE, state: str = "run", **fields: Any) -> dict[str, Any]:
    """An instance as a coordinator lists it."""
    return {"instanceId": instance_id, "name": "web", "revision": 2, "command": "true", "drainMs": 1_000, "state": state, **fields}
