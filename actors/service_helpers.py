"""What ServiceWork has others do, so that it waits for nothing: probes, bundles, and the deletion of folders."""

import logging
from collections.abc import Collection

from actors.host_loops import Tell
from actors.service_bundles import BundleStock
from actors.service_messages import ProbeAnswered, Unpacked
from actors.service_threads import ServiceThreads
from skyclaw.outside.health_checks import probe
from skyclaw.outside.ports import NoFreePort, can_listen, free_port
from skyclaw.outside.processes import Executor
from skyclaw.outside.service_folders import ServiceFolders

logger = logging.getLogger(__name__)

HASTE_S = 1.5  # between TERM and KILL, when the host has to stop now
PROBES, FILES = 8, 2  # threads
LAST_S = 2.0  # for what is being done when the host stops; a bundle that is still on its way is not waited for


class ServiceHelpers:
    """Threads that probe, unpack and delete, and tell ServiceSupervisor what came of it; ports; and the executor of the services.

    The ports are those from `first_port` on, and first those from the `begin`th of them on.
    """

    def __init__(self, executor: Executor, folders: ServiceFolders, stock: BundleStock, first_port: int, begin: int, tell: Tell) -> None:
        self.executor, self.folders = executor, folders
        self._stock, self._first_port, self._begin, self._tell = stock, first_port, begin, tell
        self._probes = ServiceThreads(PROBES, "service-probes")
        self._files = ServiceThreads(FILES, "service-files")

    def probe(self, instance_id: str, run: int, port: int, path: str | None) -> None:
        """Look after an instance's health; answered by ProbeAnswered."""
        self._probes.do(lambda: self._tell(ProbeAnswered(instance_id, run, _probed(port, path))))

    def unpack(self, instance_id: str, bundle: str) -> None:
        """Get a bundle into an instance's folder; answered by Unpacked."""
        self._files.do(lambda: self._tell(self._unpacked(instance_id, bundle)))

    def remove(self, instance_id: str) -> None:
        """Delete an instance's folder. From now on there is none, and a new one may be made."""
        try:
            place = self.folders.take_away(instance_id)
        except OSError:
            logger.exception("service_folder_left instance=%s", instance_id)
        else:
            self._files.do(lambda: self.folders.delete(place))

    def free_port(self, former: int | None, served: bool, taken: Collection[int]) -> int | None:
        """The former port if it can be had, or another one that is not taken; None when there is none.

        A server that `served` on the former one gets it back when it asks for its reuse, and another one when that did not go well.
        """
        if former is not None and can_listen(former, reuse=served):
            return former
        try:
            return free_port(self._first_port, taken, self._begin)
        except NoFreePort:
            return None

    def end_processes(self) -> None:
        """End what runs with less patience than each process was promised, and start nothing more."""
        self._probes.do(lambda: self.executor.stop(HASTE_S))

    def stop(self) -> None:
        """Wait for what is being done, for a moment. What is left of files is deleted when the host starts again."""
        for threads in (self._probes, self._files):
            threads.stop(LAST_S)

    def _unpacked(self, instance_id: str, bundle: str) -> Unpacked:
        error, for_good = self._stock.unpack(bundle, instance_id, self.folders)
        return Unpacked(instance_id, error, for_good)


def _probed(port: int, path: str | None) -> str | None:
    """Why a process is not healthy, with what it was asked for; None when it is."""
    error = probe(port, path)
    return None if error is None else f"port {port}{path or ''}: {error}"
