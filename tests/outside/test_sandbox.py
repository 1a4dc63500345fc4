"""What a job gets of its host, and what it does not. Every process in here is a real one."""

import os
import pwd
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyclaw.errors import StartRefused
from skyclaw.outside import executor_process
from skyclaw.outside.processes import Executor, Limits
from skyclaw.outside.sandbox import job_environment, safe_path
from tests.support.executors import QUICK, ROOT, Rig, children, reachable_directory, running
from tests.support.real_processes import ROOT as SOURCES

CANARY = "canary-3f9a51c07e"
NOBODY = pwd.getpwnam("nobody")
JOB_USER = "nobody" if ROOT else None


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """Jobs as they should run: as an ordinary user, with small limits."""
    limits = Limits(processes=40, files=64, file_bytes=1_000_000, memory_bytes=256 << 20, term_grace_ms=300)
    with running(limits, job_user=JOB_USER) as rig:
        yield rig


def python(rig: Rig, program: str, **fields: object) -> tuple[int, str, str]:
    """Run a program by an interpreter that every user may start."""
    ended = rig.run(usable_python(), "-I", "-S", "-c", program, **fields)
    return ended.exit_code, ended.stdout.strip(), ended.stderr.strip()


def usable_python() -> str:
    """An interpreter of at least 3.11 that ordinary users may start, which the tests' own one may not be."""
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        check = [path, "-I", "-S", "-c", "import sys, ctypes; sys.exit(sys.version_info < (3, 11))"]
        try:
            ids = {"user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": []} if ROOT else {}
            if subprocess.run(check, **ids, check=False, capture_output=True, cwd="/").returncode == 0:  # type: ignore[call-overload]
                return path
        except OSError:
            continue
    pytest.skip("there is no Python that an ordinary user could start")


# The environment.


def test_the_environment_is_made_from_scratch(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYCLAW_TOKEN", CANARY)
    ended = rig.run("/usr/bin/env", "-0", env={"GREETING": "a=b\nc é", "PORT": "80"}, job_id="job_7")
    env = dict(line.split("=", 1) for line in ended.stdout.rstrip("\0").split("\0"))
    home = env.pop("HOME")
    assert Path(home).parent.parent == rig.parent
    assert env == {
        "PATH": safe_path(os.environ["PATH"]),
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "SKYCLAW_JOB_ID": "job_7",
        "SKYCLAW_RUN_ID": ended.run_id,
        "GREETING": "a=b\nc é",
        "PORT": "80",
    }


def test_a_job_may_choose_its_home_and_language() -> None:
    env = job_environment("/home/job", "/bin", "job_1", "run-1", {"HOME": "/elsewhere", "LANG": "de_DE.UTF-8"})
    assert (env["HOME"], env["LANG"], env["TMPDIR"], env["PATH"]) == ("/elsewhere", "de_DE.UTF-8", "/home/job", "/bin")


@pytest.mark.parametrize(
    ("path", "safe"), [("/usr/bin:/bin", "/usr/bin:/bin"), (":/bin:.:bin:", "/bin"), ("", os.defpath), (".", os.defpath)]
)
def test_the_search_path_has_no_entry_that_depends_on_where_the_job_is(path: str, safe: str) -> None:
    assert safe_path(path) == safe


SPY = """
import os
found = []
for name in os.listdir("/proc"):
    try:
        with open(f"/proc/{name}/environ", "rb") as file:
            found += [name] if b"%s" in file.read() else []
    except OSError:
        pass
print(len(found))
"""

HOST = """
import os, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from skyclaw.outside.processes import Executor, Limits, Order, hide_from_jobs
if sys.argv[3] == "hidden":
    assert hide_from_jobs()
done = threading.Event()
def end(ended):
    print(ended.stdout.strip(), ended.stderr.strip(), ended.error or "", os.getuid())
    done.set()
executor = Executor(Path(sys.argv[2]), Limits(), "process", end)
executor.run(Order("run-1", (sys.executable, "-I", "-S", "-c", sys.argv[4]), {}, None, 20_000, 1_000, "job_1"))
done.wait()
executor.stop()
"""


@pytest.mark.parametrize(("host", "found"), [("hidden", "0"), ("open", "1")])
def test_a_job_of_the_same_user_cannot_read_the_hosts_secrets(host: str, found: str) -> None:
    """The whole of it as an ordinary user: root may read everything. The open host shows that the spy would find it."""
    with reachable_directory() as top:
        top.chmod(0o777)
        printed = subprocess.run(
            [usable_python(), "-c", HOST, str(SOURCES), str(top / "work"), host, SPY % CANARY],
            env={"SKYCLAW_TOKEN": CANARY, "PATH": "/usr/bin:/bin"},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            **({"user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": []} if ROOT else {}),
        )
    assert printed.stderr == ""
    assert printed.stdout.split() == [found, str(NOBODY.pw_uid if ROOT else os.getuid())]


def test_the_executor_holds_nothing_of_the_hosts_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYCLAW_TOKEN", CANARY)
    tell = f"import os, pathlib; pathlib.Path({str(tmp_path / 'names')!r}).write_text(' '.join(os.environ)); "
    monkeypatch.setattr(executor_process, "_PROGRAM", changed_program(tell))
    with running():
        assert set((tmp_path / "names").read_text().split()) == {"PATH", "LANG"}


def test_a_job_cannot_look_into_the_executor(rig: Rig) -> None:
    if not ROOT:
        assert rig.sh("cat /proc/$PPID/environ").exit_code != 0
    assert os.stat(f"/proc/{rig.pid}/environ").st_uid == 0
    assert rig.sh("cat /proc/$PPID/environ /proc/$PPID/maps").stdout == ""


# Rights.


def test_what_a_job_makes_is_its_own_users_alone(rig: Rig) -> None:
    assert rig.sh("umask; touch x; mkdir d; stat -c %a x d").stdout.split() == ["0077", "600", "700"]


def test_no_program_gives_a_job_more_rights(rig: Rig) -> None:
    assert "NoNewPrivs:\t1" in rig.run("/bin/cat", "/proc/self/status").stdout


@pytest.mark.skipif(not ROOT, reason="only root can run jobs as another user")
def test_jobs_of_a_host_that_is_root_run_as_the_jobs_user(rig: Rig) -> None:
    lines = dict(line.split(":\t", 1) for line in rig.run("/bin/cat", "/proc/self/status").stdout.splitlines())
    assert lines["Uid"].split() == [str(NOBODY.pw_uid)] * 4
    assert lines["Gid"].split() == [str(NOBODY.pw_gid)] * 4
    assert set(lines["Groups"].split()) <= {str(NOBODY.pw_gid)}
    assert int(lines["CapEff"], 16) == int(lines["CapPrm"], 16) == 0


@pytest.mark.parametrize(("user", "why"), [("no-such-user", "there is no user"), ("root", "must not run as root")])
def test_a_jobs_user_that_cannot_be_is_refused(tmp_path: Path, user: str, why: str) -> None:
    with pytest.raises(StartRefused, match=why):
        Executor(tmp_path, QUICK, "process", lambda _: None, user)


# Limits.


def test_a_file_can_only_grow_to_its_limit(rig: Rig) -> None:
    ended = rig.sh("head -c 3000000 /dev/zero > big; echo $?; stat -c %s big")
    assert ended.stdout.split() == ["153", "1000000"]


def test_a_job_can_only_open_so_many_files(rig: Rig) -> None:
    code, printed, _ = python(
        rig, "import os, resource\nprint(resource.getrlimit(resource.RLIMIT_NOFILE))\nfor n in range(100): last = os.dup(1); print(last)"
    )
    assert code == 1
    assert printed.split("\n")[0] == "(64, 64)"
    assert printed.split("\n")[-1] == "63"


def test_a_job_only_gets_so_much_memory(rig: Rig) -> None:
    small, big = 100 << 20, 400 << 20
    assert python(rig, f"print(len(bytearray({small})))")[:2] == (0, str(small))
    code, _, said = python(rig, f"bytearray({big})")
    assert code == 1
    assert said.endswith("MemoryError")


@pytest.mark.skipif(not shutil.which("node"), reason="there is no node here")
def test_node_runs_within_the_usual_memory_limit() -> None:
    node = shutil.which("node") or ""
    program = "const a = []; for (let i = 0; i < 1e6; i++) a.push({i}); console.log(a.length)"
    with running(Limits(), job_user=JOB_USER) as rig:
        ended = rig.run(node, "-e", program)
        assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "1000000\n", "")


BOMB = """
import os, time
made = 0
for _ in range(400):
    try:
        if os.fork() == 0:
            time.sleep(100)
        made += 1
    except BlockingIOError:
        break
print(made)
"""


def test_400_forks_are_stopped_at_the_limit_for_an_ordinary_user(rig: Rig) -> None:
    code, made, _ = python(rig, BOMB)
    assert code == 0
    assert 20 <= int(made) <= 40
    assert rig.sh("true & wait; echo fine").stdout == "fine\n"


def changed_program(before: str) -> str:
    """The executor's program, with something done before it begins."""
    start, rest = executor_process._PROGRAM.split("from ")
    return f"{start}{before}from {rest}"


@pytest.mark.parametrize(("own", "final"), [("ulimit -n 20", "20 20"), ("ulimit -Sn 20", "50 50"), (":", "50 50")])
def test_a_job_that_is_faster_than_its_limits_can_only_lower_them(monkeypatch: pytest.MonkeyPatch, own: str, final: str) -> None:
    slow = "import skyclaw.outside.sandbox as s, time; seal = s.JobLimits.seal; s.JobLimits.seal = lambda *a: (time.sleep(0.2), seal(*a)); "
    monkeypatch.setattr(executor_process, "_PROGRAM", changed_program(slow))
    with running(Limits(files=50), job_user=JOB_USER) as rig:
        ended = rig.sh(f"echo $(ulimit -Sn); {own}; sleep 0.5; echo $(ulimit -Sn) $(ulimit -Hn)")
    assert (ended.error, ended.stdout) == (None, f"50\n{final}\n")


def test_limits_that_are_off_are_not_set() -> None:
    unlimited = Limits(processes=None, files=None, file_bytes=None, memory_bytes=None)
    with running(unlimited, job_user=JOB_USER) as rig:
        ended = rig.run("/bin/cat", "/proc/self/limits")
    assert ended.limits_missing == ()
    assert limit(ended.stdout, "Max file size") == limit(ended.stdout, "Max data size") == ("unlimited", "unlimited")


def test_at_the_level_none_there_are_no_resource_limits() -> None:
    with running(Limits(processes=1, files=8, file_bytes=1, memory_bytes=1), level="none") as rig:
        ended = rig.run("/bin/cat", "/proc/self/limits")
        assert ended.limits_missing == ()
        assert limit(ended.stdout, "Max file size") == limit(ended.stdout, "Max data size") == ("unlimited", "unlimited")
        assert int(limit(ended.stdout, "Max open files")[0]) >= min(1_024, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        assert "NoNewPrivs:\t0" in rig.run("/bin/cat", "/proc/self/status").stdout
        assert rig.sh("umask; pwd").stdout.split()[0] == "0077"
        assert rig.sh("sleep 1000 & true").exit_code == 0


def test_no_core_is_dumped(rig: Rig) -> None:
    assert limit(rig.run("/bin/cat", "/proc/self/limits").stdout, "Max core file size") == ("0", "0")


def limit(limits: str, name: str) -> tuple[str, str]:
    line = next(line for line in limits.splitlines() if line.startswith(name))
    soft, hard = line.removeprefix(name).split()[:2]
    return soft, hard


def test_256_jobs_run_at_once() -> None:
    """The executor needs more descriptors than it leaves to its jobs."""
    with running(Limits(files=32, processes=None)) as rig:
        runs = [rig.shell("read line; ulimit -n", stdin=None if n % 2 else b"\n", timeout_ms=30_000) for n in range(256)]
        assert {rig.end(run).stdout for run in runs} == {"32\n"}


def test_many_jobs_share_the_processes_of_all() -> None:
    with running(Limits(processes=20, parallel=4), job_user=JOB_USER) as rig:
        runs = [rig.shell("for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2 & done; wait; echo fine") for _ in range(4)]
        assert [rig.end(run).stdout for run in runs] == ["fine\n"] * 4


# What is missing.


@pytest.mark.skipif(not ROOT, reason="what root may do")
def test_what_cannot_be_enforced_on_root_is_named() -> None:
    with running() as rig:
        assert rig.run("/bin/true").limits_missing == ("processes",)


def test_nothing_is_missing_for_an_ordinary_user(rig: Rig) -> None:
    assert rig.run("/bin/true").limits_missing == ()


ELSEWHERE = "import ctypes, os, resource; del os.pidfd_open, os.waitid, resource.prlimit, resource.RLIMIT_RTTIME; sys.platform = 'darwin'; "
ELSEWHERE += "import skyclaw.outside.sandbox as s; s._prctl = lambda *_: False; "
ELSEWHERE += "import skyclaw.outside.sweeping as w; w.Sweeper.__init__.__defaults__ = ('/no',); w._children_by_scan = lambda _: iter(()); "


def test_a_system_that_has_less_runs_jobs_and_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: no prctl, no prlimit, no pidfd, no /proc."""
    monkeypatch.setattr(executor_process, "_PROGRAM", changed_program(ELSEWHERE))
    others = children()
    with running() as rig:
        ended = rig.sh("sleep 60 & umask; kill -SEGV $$")
        assert (ended.exit_code, ended.signal, ended.stdout) == (139, "SEGV", "0077\n")
        assert set(ended.limits_missing) == {"descendants", "new_privileges", "memory_bytes", "files", "processes"}
        assert rig.sh("trap '' TERM; sleep 60; sleep 60", timeout_ms=100).signal == "KILL"
        for pid in children() - others - {rig.pid}:  # which this process adopted, because that executor could not
            os.waitpid(pid, 0)
