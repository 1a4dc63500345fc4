"""What a host hears from its executor."""

import os
import signal

import pytest

from tests.support.executors import ROOT, change_executors, running, until

# What an executor says first is held back until it says which directory it could not delete, and then sent with that at once.
ALL_AT_ONCE = "import skyclaw.outside.frames as f; flush = f.Frames.flush; "
ALL_AT_ONCE += "f.Frames.flush = lambda self: None if b'ready' in self._outgoing and b'left' not in self._outgoing else flush(self); "


@pytest.mark.skipif(not ROOT, reason="only root can run jobs as another user")
def test_what_an_executor_says_together_with_its_first_word_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """It empties the directory of the one before it, but only the host can delete that."""
    with running(job_user="nobody") as rig:
        run_id = rig.shell("echo x > file; exec sleep 60")
        until(lambda: list(rig.parent.glob("*/*/file")))
        (session,) = rig.parent.iterdir()
        os.kill(rig.pid, signal.SIGKILL)
        assert rig.end(run_id).error == "executor died"
        change_executors(monkeypatch, ALL_AT_ONCE)
        assert rig.run("/bin/true").exit_code == 0
        until(lambda: not session.exists())
