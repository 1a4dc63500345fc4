"""The executor: the small process of a host in which its jobs are started, watched, limited and ended.

It does to itself, once, what its jobs are to inherit, and then serves its host. It imports little, because every host runs one; and all of
it at once, because the user that it becomes may not be able to read these files.
"""

import gc
import os
import select
import signal
import socket
from typing import Any

from skyclaw.outside.frames import Frames
from skyclaw.outside.job_loop import JobLoop
from skyclaw.outside.removing import removed
from skyclaw.outside.sandbox import Caps, JobLimits, adopt_orphans, become, hide_memory, refuse_new_privileges

_NOT_FOR_US = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main() -> None:
    """Serve the host at the other end of the socket that is this process' standard input; it begins by saying what it wants."""
    link = Frames(socket.socket(fileno=os.dup(0)))
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    try:
        wanted = _first(link)
        caps, limits, missing = _prepare(wanted)
    except EOFError:  # the host has gone already
        return
    except (OSError, KeyError, ValueError) as error:
        link.send({"op": "failed", "error": str(error)})
        raise SystemExit(1) from error
    link.send({"op": "ready", "missing": missing})
    gc.freeze()
    JobLoop(link, wanted["session"], wanted["path"], caps, limits, wanted["stale"]).serve()
    removed(wanted["session"])


def _first(link: Frames) -> dict[str, Any]:
    while True:
        select.select([link], [], [])
        for head, _ in link.receive():
            return head


def _prepare(wanted: dict[str, Any]) -> tuple[Caps, JobLimits, list[str]]:
    """Make this process what the jobs are to inherit; what could not be had is named."""
    _settle_signals()
    os.umask(0o077)
    missing = [] if adopt_orphans() else ["descendants"]
    if wanted["user"]:
        become(wanted["user"])
    hide_memory()
    caps = Caps(**wanted["limits"])
    if wanted["level"] == "process":
        missing += [] if refuse_new_privileges() else ["new_privileges"]
    else:
        caps = caps.without_resources()
    limits = JobLimits(caps)
    os.chdir(wanted["session"])  # fails when the jobs' user cannot get there
    os.chdir("/")
    return caps, limits, missing + limits.missing


def _settle_signals() -> None:
    """The host decides when this process ends. Handlers, unlike SIG_IGN, are not inherited; what was ignored before would be."""
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if number in _NOT_FOR_US:
            signal.signal(number, lambda *_: None)
        elif signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
