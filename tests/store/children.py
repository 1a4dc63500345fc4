"""Work done in a child process: under another user, with little room, or until it is killed. A fork, so that nothing is imported anew."""

import os
import pickle
import signal
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import pytest

T = TypeVar("T")

ORDINARY_USER = 65534 if os.geteuid() == 0 else None  # one whom modes bind: root may write everywhere, everybody else is one already
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount or to make files immutable")


def in_child(work: Callable[[], T], uid: int | None = None) -> T:
    """What `work` returns or raises in a child process, which runs as `uid` if that is given."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        _answer(work, uid, write)
    os.close(write)
    with os.fdopen(read, "rb") as answers:
        answer = answers.read()
    status = os.waitpid(pid, 0)[1]
    assert answer, f"the child ended with status {status}"
    result, error = pickle.loads(answer)  # noqa: S301 - from our own child
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def forked(work: Callable[[], Any]) -> int:
    """Start `work` in a child; returns its pid. The child prints what it raises and ends with status 1."""
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def dies_after(work: Callable[[], Any]) -> None:
    """Do `work` in a child that is then killed, so that what it has open is never closed."""

    def work_and_die() -> None:
        _still_open = work()
        os.kill(os.getpid(), signal.SIGKILL)

    assert os.waitpid(forked(work_and_die), 0)[1] == signal.SIGKILL


def killed(pid: int) -> bool:
    """Kill a child and wait for its end; False when it had ended by itself, and well."""
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), f"the child ended with status {status}"
    return status == signal.SIGKILL


def _answer(work: Callable[[], Any], uid: int | None, write: int) -> NoReturn:
    try:
        if uid is not None:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        answer = pickle.dumps((work(), None))
    except BaseException as error:
        answer = pickle.dumps((None, error))
    with os.fdopen(write, "wb") as answers:
        answers.write(answer)
    os._exit(0)
