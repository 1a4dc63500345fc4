"""What can be measured, in the order in which it is."""

from collections.abc import Callable, Iterator, Mapping

from tests.benchmarks import cluster, depth, enqueue, gateway, restart, start_time, true_jobs, waiting_hosts
from tests.benchmarks.figures import Figure
from tests.benchmarks.stage import Stage

SUBJECTS: Mapping[str, Callable[[Stage], Iterator[Figure]]] = {
    "true_jobs": true_jobs.measure,
    "enqueue": enqueue.measure,
    "depth": depth.measure,
    "waiting_hosts": waiting_hosts.measure,
    "restart": restart.measure,
    "start_time": start_time.measure,
    "cluster": cluster.measure,
    "gateway": gateway.measure,
}
