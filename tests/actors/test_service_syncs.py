"""The thread that tells coordinators of a host's services, round by round; its coordinator is a scripted server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import service_syncs
from actors.host_messages import HostUnknown
from actors.service_board import ServiceBoard, Shown
from actors.service_messages import Synced
from actors.service_syncs import PulseLoop, SyncLoop
from actors.ticker import Tick
from skyclaw.errors import ServerRefused
from skyclaw.outside.coordinators import Coordinators
from skyclaw.outside.rotating import Rotating
from tests.support.hosts import until
from tests.support.scripted_server import Asked, Reply, ScriptedServer

ONE, TWO = "ins_0a1b2c3d00000001", "ins_0a1b2c3d00000002"


class Stage:
    """A sync loop, which a test takes round by round, and its coordinator, which answers `reply`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.board = folder, ServiceBoard()
        self.reply = Reply(say={"instances": [], "stop": [], "logs": [], "leaseMs": 15_000, "digest": "d1"})
        self.told, self.agent = list[Any](), list[object]()
        self.server = ScriptedServer(self._answer)
        self.server.start()
        self.loop = self.make()

    def make(self, base_url: str | None = None) -> SyncLoop:
        self.coordinators = Coordinators([self.server.url, f"{self.server.url}/second"])
        self.loop = SyncLoop(self.coordinators, "host/1", self.board, base_url, self.told.append, self.agent.append)
        return self.loop

    def show(self, *ids: str, status: str = "running", error: str | None = None) -> None:
        self.board.put(tuple(Shown(one, status, 3_100, error, self.folder / one) for one in ids))

    def print(self, instance_id: str, data: bytes) -> None:
        """What the instance prints."""
        (self.folder / instance_id).mkdir(exist_ok=True)
        Rotating(self.folder / instance_id, 1 << 20).write(data)

    def want_output(self, *ids: str, at: int = 0) -> None:
        """The answers to come say that."""
        self.reply.say["instances"] = [{"instanceId": one, "outputAt": at, "state": "run"} for one in ids]

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The instances in the last request."""
        instances: list[dict[str, Any]] = self.server.asked[-1].json["instances"]
        return instances

    def _answer(self, _asked: Asked) -> Reply:
        return self.reply


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.server.stop()


def test_what_is_on_the_board_is_told_and_the_answer_is_handed_on(stage: Stage) -> None:
    stage.show(ONE, status="starting", error="connection refused")
    stage.loop.once()
    assert stage.server.asked[0].path == "/v1/hosts/host%2F1/services/sync"
    assert stage.sent == [{"instanceId": ONE, "status": "starting", "port": 3_100, "error": "connection refused"}]
    (synced,) = stage.told
    assert isinstance(synced, Synced)
    assert (synced.told, synced.answer.digest) == ({ONE: "starting"}, "d1")


def test_the_address_of_the_host_is_told_when_it_has_one(stage: Stage) -> None:
    stage.make("https://web.example")
    stage.show(ONE)
    stage.loop.once()
    assert stage.sent[0]["endpoint"] == "https://web.example:3100"


def test_instances_are_told_of_often_enough_for_their_leases(stage: Stage) -> None:
    assert stage.loop.once() == service_syncs.IDLE_S
    stage.show(ONE)
    assert stage.loop.once() == 2.0
    stage.reply.say["leaseMs"] = 2_000
    assert stage.loop.once() == 0.5


def test_only_a_digest_that_is_new_is_a_reason_to_sync(stage: Stage) -> None:
    stage.loop.once()
    nudged: list[bool] = []
    stage.loop.nudge = lambda: nudged.append(True)  # type: ignore[method-assign]
    stage.loop.hear({"job": None})
    stage.loop.hear({"services": "d1"})
    assert nudged == []
    stage.loop.hear({"services": "d2"})
    assert nudged == [True]


def test_output_is_sent_from_where_it_is_wanted(stage: Stage) -> None:
    stage.print(ONE, b"hello w\xc3\xb6rld\n")
    stage.show(ONE, TWO)
    stage.want_output(ONE, TWO, at=6)
    stage.loop.once()
    assert "output" not in stage.sent[0]  # nobody has asked for it yet
    stage.loop.once()
    assert stage.sent[0]["output"] == {"at": 6, "text": "wörld\n"}
    assert "output" not in stage.sent[1]  # it has not even a folder


def test_a_long_output_is_sent_in_pieces_soon_after_each_other(stage: Stage) -> None:
    stage.print(ONE, b"x" * 40_000)
    stage.show(ONE)
    stage.want_output(ONE)
    stage.loop.once()
    assert stage.loop.once() == service_syncs.MORE_S
    assert len(stage.sent[0]["output"]["text"]) == 32_768
    stage.want_output(ONE, at=32_768)
    stage.loop.once()
    assert stage.loop.once() == 2.0
    assert stage.sent[0]["output"] == {"at": 32_768, "text": "x" * 7_232}


def test_what_lies_too_far_back_is_skipped(stage: Stage) -> None:
    stage.print(ONE, b"a" * 100_000 + b"b" * 262_144)
    stage.show(ONE)
    stage.want_output(ONE)
    stage.loop.once()
    stage.loop.once()
    assert stage.sent[0]["output"] == {"at": 100_000, "text": "b" * 32_768}


@pytest.mark.parametrize("status", ["failed", "ended"])
def test_of_what_is_over_the_last_words_are_sent(stage: Stage, status: str) -> None:
    stage.print(ONE, b"a" * 100_000 + b"b" * 32_768)
    stage.show(ONE, status=status)
    stage.want_output(ONE)
    stage.loop.once()
    stage.loop.once()
    assert stage.sent[0]["output"] == {"at": 100_000, "text": "b" * 32_768}


def test_a_folder_that_cannot_be_read_keeps_nobody_from_being_told_of(stage: Stage) -> None:
    """It belongs to who runs the service."""
    stage.show(ONE, TWO)
    (stage.folder / ONE).write_text("in the place of a folder")
    stage.print(TWO, b"hello")
    stage.want_output(ONE, TWO)
    for _ in range(2):
        stage.loop.once()
    assert [said.get("output") for said in stage.sent] == [None, {"at": 0, "text": "hello"}]


def test_many_outputs_share_the_room_of_a_request(stage: Stage) -> None:
    ids = [f"ins_0a1b2c3d{number:08}" for number in range(256)]
    for one in ids:
        stage.print(one, b"\0" * 40_000)  # each byte of which becomes six in JSON
    stage.show(*ids)
    stage.want_output(*ids)
    stage.loop.once()
    stage.loop.once()
    assert len(stage.server.asked[-1].body) < 4 << 20
    assert all(said["output"]["text"] for said in stage.sent)


def test_a_host_that_is_not_known_is_to_register_again(stage: Stage) -> None:
    stage.reply = Reply(404, {"error": "unknown host", "code": "unknown_host"})
    with pytest.raises(ServerRefused) as refused:
        stage.loop.once()
    stage.loop.failed(refused.value)
    assert [type(message) for message in stage.agent] == [HostUnknown]


def test_a_coordinator_that_knows_no_services_is_left_alone(stage: Stage) -> None:
    stage.reply = Reply(404, {"error": "not found", "code": "not_found"})
    assert stage.loop.once() == service_syncs.IDLE_S
    assert (stage.told, stage.agent) == ([], [])


def test_every_change_on_the_board_is_told_at_once(stage: Stage) -> None:
    stage.loop.start()
    until(lambda: len(stage.server.asked) == 1)
    stage.show(ONE, status="starting")
    until(lambda: len(stage.server.asked) == 2)
    stage.show(ONE, status="starting")
    stage.show(ONE)
    until(lambda: len(stage.server.asked) >= 3 and stage.sent[0]["status"] == "running")
    stage.loop.stop(5)


def test_time_passes_only_while_there_is_an_instance(stage: Stage) -> None:
    told: list[object] = []
    pulse = PulseLoop(stage.board, told.append)
    pulse.start()
    stage.show(ONE)
    until(lambda: len(told) > 3)
    assert {type(message) for message in told} == {Tick}
    stage.show()
    assert not pulse.has_work()
    pulse.stop(5)


def test_after_an_answer_that_is_partial_another_coordinator_is_asked(stage: Stage) -> None:
    stage.loop.once()
    stage.loop.once()
    stage.reply.say["partial"] = True
    stage.loop.once()
    stage.reply.say["partial"] = False
    stage.loop.once()
    stage.loop.once()
    assert [one.path.startswith("/second/") for one in stage.server.asked] == [False, False, False, True, True]
    assert len(stage.told) == 5
