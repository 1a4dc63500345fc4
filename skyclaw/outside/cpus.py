"""Which CPUs this process runs on."""

import os


def stay_on_one_cpu(number: int) -> None:
    """Only one thread runs Python at a time: on one CPU a request passes through them without waking another CPU at each step.

    Processes with successive numbers are on different CPUs, as far as there are some.
    """
    if hasattr(os, "sched_setaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[number % len(cpus)]})
