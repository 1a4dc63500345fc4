"""Several real coordinators that know each other, and real clients of them: start, kill, pause, wipe, and look at what each has stored."""

import hashlib
import json
import random
import shutil
import signal
import socket
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import requests

from skyclaw.errors import ServerRefused
from skyclaw.outside.coordinators import Coordinators, Unreachable
from tests.support.netns import Network
from tests.support.real_processes import TOKEN, CoordinatorProcess, Process, wait_until

HEARTBEAT_MS = 150
SYNC_MS = 200
LEASE_MS = 4_000
OF_THE_READER = ("updatedBy", "leaseExpiresAt", "unschedulable")  # what coordinators show each in their own way
FINISHED = {"completed", "failed", "cancelled"}
BELOW_EPHEMERAL = range(15_000, 32_000)  # ports that no outgoing connection is given while their coordinator is down


class Member(CoordinatorProcess):
    """One coordinator of a cluster; its folder is its own, and it keeps its address."""

    def __init__(
        self, folder: Path, label: str, address: str, inside: Sequence[str], program: list[str], settings: dict[str, object]
    ) -> None:
        folder.mkdir(parents=True)
        port = steady_port()
        own = {
            "SKYCLAW_COORDINATOR_NODE_ID": label,
            "SKYCLAW_COORDINATOR_HOST": address,
            "SKYCLAW_COORDINATOR_PORT": port,
            "SKYCLAW_COORDINATOR_PUBLIC_URL": f"http://{address}:{port}",
            "SKYCLAW_COORDINATOR_ONE_CPU": 0,
            "SKYCLAW_PEER_HEARTBEAT_MS": HEARTBEAT_MS,
            "SKYCLAW_PEER_SYNC_MS": SYNC_MS,
            "SKYCLAW_LEASE_MS": LEASE_MS,
        }
        super().__init__(folder, [*inside, *program], **{**own, **settings})
        self.label, self.port, self.url, self.folder = label, port, f"http://{address}:{port}", folder

    def launch(self) -> None:
        """Start it without waiting for it."""
        Process.start(self)

    def pause(self) -> None:
        """It does nothing any more, and its connections stay open."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after a pause."""
        self._send(signal.SIGCONT)

    def restart(self) -> None:
        """SIGTERM, and start again."""
        assert self.stop() == 0, self.printed
        self.start()

    def wipe(self) -> None:
        """Lose the disk; the process must have ended."""
        assert self.process is None
        for path in self.folder.glob("coordinator.db*"):
            path.unlink()
        shutil.rmtree(self.folder / "home", ignore_errors=True)

    def health(self) -> dict[str, Any]:
        """What /health says."""
        answer: dict[str, Any] = self.session.get(f"{self.url}/health", timeout=10).json()
        return answer

    # What it has stored

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What an SQL query finds in the database."""
        with closing(sqlite3.connect(f"file:{self.folder}/coordinator.db?mode=ro", uri=True, timeout=20)) as connection:
            return connection.execute(query, values).fetchall()

    @property
    def node(self) -> str:
        """Its id."""
        return str(self.rows("SELECT node FROM identity")[0][0])

    @property
    def log(self) -> str:
        """The tag of the log it founded."""
        return str(self.rows("SELECT log FROM identity")[0][0])

    def events(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """The events of this type in all its logs: tag of the log, and data."""
        found = self.rows("SELECT log, data FROM event WHERE type = ? ORDER BY log, seq", kind)
        return [(log, json.loads(data)) for log, data in found]

    def owners(self) -> dict[str, str]:
        """By log, who took it over last, as far as this coordinator has heard."""
        return {log: data["node"] for log, data in self.events("OwnershipTaken")}

    def configurations(self) -> dict[str, list[tuple[set[str], int]]]:
        """By log, who votes and how many copies a write needs; two of these while voters change."""
        return {
            log: [(set(voters), copies) for voters, copies in data["configurations"]] for log, data in self.events("ConfigurationChanged")
        }

    def ends(self) -> tuple[tuple[Any, ...], ...]:
        """Tag, last position and its hash, which is that of everything before too, of every log."""
        return tuple(self.rows("SELECT log, max(seq), hash FROM event GROUP BY log ORDER BY log"))

    # What it shows

    def jobs(self) -> list[dict[str, Any]]:
        """Every job there is, by pages."""
        found: list[dict[str, Any]] = []
        after: dict[str, object] = {}
        while True:
            page = self.get("/v1/jobs", limit=1000, **after)
            found += page["jobs"]
            if "next" not in page:
                return found
            after = {"after": page["next"]}

    def state_hash(self) -> str:
        """A hash of every job of every log, as this coordinator shows it."""
        shown = [{name: value for name, value in job.items() if name not in OF_THE_READER} for job in self.jobs()]
        return hashlib.sha256(json.dumps(sorted(shown, key=lambda job: str(job["id"])), sort_keys=True).encode()).hexdigest()

    def _send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


class Cluster:
    """`count` coordinators; all but the first are told the address of the first, unless `peers` says otherwise."""

    def __init__(
        self, folder: Path, count: int, network: Network | None = None, program: list[str] | None = None, **settings: object
    ) -> None:
        self.members: list[Member] = []
        self._folder, self._network, self._program, self._settings = folder, network, program, settings
        for _ in range(count):
            self.add(self.members[:1])

    def __getitem__(self, number: int) -> Member:
        return self.members[number]

    def add(self, known: Sequence[Member] = (), **settings: object) -> Member:
        """One more, not started yet, that is told where these are."""
        number = len(self.members)
        peers = {"SKYCLAW_PEER_URLS": ",".join(member.url for member in known)} if known else {}
        program = self._program or [sys.executable, "-m", "skyclaw", "coordinator"]
        inside, address = (self._network.inside(number), self._network.address(number)) if self._network else ([], "127.0.0.1")
        values = {**peers, **self._settings, **settings}
        self.members.append(Member(self._folder / f"c{number}", f"c{number}", address, inside, program, values))
        return self.members[-1]

    def start(self) -> None:
        """Start all of them and wait until they are one cluster."""
        for member in self.members:
            member.launch()
        for member in self.members:
            wait_until(member.answers, f"{member.label} answers; it printed: {member.printed}")
        self.wait_settled()

    def end(self) -> None:
        """Kill all of them, also those that are paused."""
        for member in self.members:
            member.kill()
            member.session.close()

    @property
    def running(self) -> list[Member]:
        """Those that were started and not ended."""
        return [member for member in self.members if member.process is not None]

    @property
    def urls(self) -> list[str]:
        """The addresses of all."""
        return [member.url for member in self.members]

    def wait_settled(self, voters: int | None = None, copies: int | None = None, patience_s: float = 40) -> None:
        """Wait until those who run are ready and agree that so many vote in each of their logs; by default as the policy has it."""
        running = self.running
        policy = (3, 2) if len(running) >= 3 else (1, 1)
        count, wanted = voters or policy[0], copies or policy[1]

        def settled() -> bool:
            said = [member.health() for member in running]
            logs = {one["log"] for one in said if one["log"] is not None}
            return all(one["ready"] for one in said) and all(_agreed(member, logs, count, wanted) for member in running)

        try:
            wait_until(settled, "the coordinators are one cluster", patience_s)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.describe()}") from None

    def describe(self) -> str:
        """How each of them is, for a failed test."""
        return "\n".join(_described(member) for member in self.running)

    def owner(self, log: str) -> Member | None:
        """Who of those who run decides for a log, when all of them have heard the same."""
        said = {member.owners().get(log) for member in self.running}
        return next((member for member in self.running if said == {member.node}), None)

    def client(self, first: int = 0, patience_s: float = 30.0, timeout_s: float = 10.0) -> Coordinators:
        """The client library with the addresses of all, beginning with that one."""
        return Coordinators([*self.urls[first:], *self.urls[:first]], TOKEN, timeout_s, patience_s)

    def wait_converged(self, patience_s: float = 30) -> str:
        """Wait until all who run have the same logs and show the same state; returns its hash."""

        def one_hash() -> str | None:
            if len({member.ends() for member in self.running}) > 1:
                return None
            hashes = {member.state_hash() for member in self.running}
            return hashes.pop() if len(hashes) == 1 else None

        try:
            found: str = wait_until(one_hash, "all coordinators show the same", patience_s)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.describe()}") from None
        return found

    def wait_finished(self, ids: Sequence[str] | set[str], patience_s: float = 60) -> None:
        """Wait until each of these jobs has finished, as the first of those who run shows it."""
        reader, wanted = self.running[0], set(ids)

        def open_jobs() -> set[str]:
            return wanted - {job["id"] for job in reader.jobs() if job["status"] in FINISHED}

        wait_until(lambda: not open_jobs(), "all jobs have finished", patience_s)

    def completions(self) -> list[Counter[str]]:
        """For each of those who run: how often it has each job's completion stored."""
        return [Counter(data["job_id"] for _, data in member.events("JobCompleted")) for member in self.running]


def _agreed(member: Member, logs: set[str], voters: int, copies: int) -> bool:
    """Has it heard that in each of these logs so many vote, and a write needs so many copies?"""
    said = member.configurations()
    return all(len(said.get(log, ())) == 1 and [(len(who), k) for who, k in said[log]] == [(voters, copies)] for log in logs)


def _described(member: Member) -> str:
    try:
        health: object = member.health()
    except (requests.RequestException, ValueError) as failure:
        health = failure
    ends = {log: seq for log, seq, _ in member.ends()}
    last_words = "\n    ".join(member.printed.splitlines()[-12:])
    return (
        f"{member.label}: {member.node}\n  health: {health}\n  ends: {ends}\n  owners: {member.owners()}\n"
        f"  voters: {member.configurations()}\n    {last_words}"
    )


class Load:
    """Clients that enqueue one job after the other, each under a key of its own, repeating it until it is acknowledged."""

    def __init__(self, cluster: Cluster, writers: int = 3, pause_s: float = 0.02, timeout_s: float = 10.0) -> None:
        self.acknowledged: dict[str, set[str]] = {}  # key -> the job ids it was answered with
        self.unanswered: set[str] = set()  # keys whose request ended without an answer; each was repeated
        self.failures: list[Exception] = []  # what ended a writer
        self._stopping, self._pause_s = threading.Event(), pause_s
        clients = [cluster.client(number % len(cluster.members), timeout_s=timeout_s) for number in range(writers)]
        self._threads = [
            threading.Thread(target=self._run, args=(client, f"w{number}"), name=f"w{number}", daemon=True)
            for number, client in enumerate(clients)
        ]

    @property
    def ids(self) -> set[str]:
        """All acknowledged jobs."""
        return set().union(*self.acknowledged.copy().values()) if self.acknowledged else set()

    def start(self) -> None:
        """Begin to write."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop writing; fails when a writer had to end before."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        assert self.failures == []

    def wait_for_more(self, count: int = 5, patience_s: float = 30) -> None:
        """Wait until that many more jobs are acknowledged than now."""
        goal = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= goal or self.failures, f"{count} more jobs are acknowledged", patience_s)
        assert self.failures == []

    def wait_for_each(self, patience_s: float = 30) -> None:
        """Wait until every client is answered once more: also the one whose log is that of a coordinator that is away."""
        before = self._answers()

        def each() -> bool:
            now = self._answers()
            return all(now[thread.name] > before[thread.name] for thread in self._threads)

        wait_until(lambda: self.failures or each(), "each client is answered", patience_s)
        assert self.failures == []

    def _answers(self) -> Counter[str]:
        return Counter(key.partition("-")[0] for key in self.acknowledged.copy())

    def _run(self, client: Coordinators, name: str) -> None:
        number = 0
        try:
            while not self._stopping.is_set():
                self._enqueue(client, f"{name}-{number}")
                number += 1
                self._stopping.wait(self._pause_s)
        except Exception as failure:  # whatever it is, the test shows it
            self.failures.append(failure)

    def _enqueue(self, client: Coordinators, key: str) -> None:
        body = shell("echo", key, labels={"key": key})
        while not self._stopping.is_set():
            try:
                job = client.post("/v1/jobs", body, key)["job"]
            except (Unreachable, ServerRefused) as failure:
                if isinstance(failure, ServerRefused) and failure.status != 503:
                    raise
                self.unanswered.add(key)
                self._stopping.wait(0.05)
            else:
                self.acknowledged.setdefault(key, set()).add(job["id"])
                return


@contextmanager
def started(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, while it runs."""
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


@contextmanager
def running(*processes: Any) -> Iterator[None]:
    """These hosts or coordinators, started one after the other, and killed at the end."""
    try:
        for process in processes:
            process.start()
        yield
    finally:
        for process in processes:
            process.kill()


def shell(command: str, *args: str, **fields: object) -> dict[str, object]:
    """The body of a request for a job."""
    return {"payload": {"kind": "shell", "command": command, "args": list(args)}, **fields}


def steady_port() -> int:
    """A free port that no outgoing connection is ever given, so that it stays free while its coordinator is down."""
    while True:
        port = random.choice(BELOW_EPHEMERAL)  # noqa: S311  # no secret
        with socket.socket() as listener:
            try:
                listener.bind(("", port))
            except OSError:
                continue
            return port


def refused(call: Callable[[], object]) -> ServerRefused:
    """How the coordinator refuses this."""
    try:
        answer = call()
    except ServerRefused as refusal:
        return refusal
    raise AssertionError(f"it was not refused: {answer}")
