"""What ServiceWork has others do, so that it waits for nothing: probes, bundles, and the deletion of folders."""

import logging
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from actors.host_loops import Tell
from actors.service_bundles import BundleStock
from actors.service_messages import ProbeAnswered, Unpacked
from skyclaw.outside.health_checks import probe
from skyclaw.outside.ports import NoFreePort, can_listen, free_port
from skyclaw.outside.processes import Executor
from skyclaw.outside.service_folders import ServiceFolders

logger = logging.getLogger(__name__)

HASTE_S = 1.5  # between TERM and KILL, when the host has to stop now
PROBES, FILES = 8, 2  # threads, which are started when they are needed


class ServiceHelpers:
    """Threads that probe, unpack and delete, and tell ServiceSupervisor what came of it; ports; and the executor of the services."""

    def __init__(self, executor: Executor, folders: ServiceFolders, stock: BundleStock, first_port: int, tell: Tell) -> None:
        self.executor, self.folders = executor, folders
        self._stock, self._first_port, self._tell = stock, first_port, tell
        self._probes = ThreadPoolExecutor(PROBES, "service-probes")
        self._files = ThreadPoolExecutor(FILES, "service-files")

    def probe(self, instance_id: str, run: int, port: int, path: str | None) -> None:
        """Look after an instance's health; answered by ProbeAnswered."""
        self._do(self._probes, lambda: self._tell(ProbeAnswered(instance_id, run, probe(port, path))))

    def unpack(self, instance_id: str, bundle: str) -> None:
        """Get a bundle into an instance's folder; answered by Unpacked."""
        self._do(self._files, lambda: self._tell(self._unpacked(instance_id, bundle)))

    def remove(self, instance_id: str) -> None:
        """Delete an instance's folder. From now on there is none, and a new one may be made."""
        try:
            place = self.folders.take_away(instance_id)
        except OSError:
            logger.exception("service_folder_left instance=%s", instance_id)
        else:
            self._do(self._files, lambda: self.folders.delete(place))

    def free_port(self, former: int | None, served: bool, taken: Collection[int]) -> int | None:
        """The former port if it can be had, or another one that is not taken; None when there is none.

        A server that `served` on the former one gets it back when it asks for its reuse, and another one when that did not go well.
        """
        if former is not None and can_listen(former, reuse=served):
            return former
        try:
            return free_port(self._first_port, taken)
        except NoFreePort:
            return None

    def end_processes(self) -> None:
        """End what runs with less patience than each process was promised, and start nothing more."""
        self._do(self._probes, lambda: self.executor.stop(HASTE_S))

    def stop(self) -> None:
        """Begin nothing more, and wait for what is being done."""
        for pool in (self._probes, self._files):
            pool.shutdown(cancel_futures=pool is self._probes)

    def _unpacked(self, instance_id: str, bundle: str) -> Unpacked:
        error, for_good = self._stock.unpack(bundle, instance_id, self.folders)
        return Unpacked(instance_id, error, for_good)

    def _do(self, pool: ThreadPoolExecutor, work: Callable[[], Any]) -> None:
        def done() -> None:
            try:
                work()
            except Exception:
                logger.exception("service_helper_failed")

        pool.submit(done)
