import json
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyclaw.outside.frames import FrameBroken, Frames


@pytest.fixture
def pair() -> Iterator[tuple[Frames, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Frames(ours), theirs


def raw(head: bytes, *blobs: bytes, more: int = 0) -> bytes:
    body = head + b"".join(blobs)
    return struct.pack("!II", 4 + len(body) + more, len(head)) + body


@given(
    st.lists(
        st.tuples(st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.none(), max_size=3), st.lists(st.binary(max_size=50)))
    ),
    st.lists(st.integers(1, 40), min_size=1),
)
def test_frames_arrive_as_they_were_sent_however_they_are_cut(
    frames: list[tuple[dict[str, str | None], list[bytes]]], cuts: list[int]
) -> None:
    frames = [({f"k{key}": value for key, value in head.items()}, blobs) for head, blobs in frames]
    sending, between = socket.socketpair()
    onward, receiving = socket.socketpair()
    with sending, between, onward, receiving:
        sender, receiver = Frames(sending), Frames(receiving)
        for head, blobs in frames:
            sender.send(dict(head), *blobs)
        sending.shutdown(socket.SHUT_WR)
        got, size = [], 0
        while data := between.recv(cuts[size % len(cuts)]):
            onward.send(data)
            size += 1
            got += receiver.receive()
        assert got == frames
        assert receiver.receive() == []


def test_what_the_socket_does_not_take_is_kept_until_there_is_room(pair: tuple[Frames, socket.socket]) -> None:
    sender, theirs = pair
    receiver = Frames(theirs)
    blob = bytes(range(256)) * 20_000
    sender.send({"op": "run"}, blob)
    assert sender.unsent
    frames = []
    while not frames:
        sender.flush()
        frames = receiver.receive()
    assert frames == [({"op": "run"}, [blob])]
    assert not sender.unsent


def test_the_end_of_the_other_side_is_an_end_of_file(pair: tuple[Frames, socket.socket]) -> None:
    frames, theirs = pair
    theirs.close()
    frames.send({"op": "lost"})
    assert not frames.unsent
    with pytest.raises(EOFError):
        frames.receive()


@pytest.mark.parametrize(
    "data",
    [
        raw(b"not json"),
        raw(b"[]"),
        raw(b"\xff"),
        raw(b'{"blobs":[5]}', b"abc"),
        raw(b"{}", b"abc"),
        struct.pack("!II", 1 << 31, 4),
        struct.pack("!II", 10, 7),
    ],
)
def test_what_is_no_frame_is_refused(pair: tuple[Frames, socket.socket], data: bytes) -> None:
    frames, theirs = pair
    theirs.sendall(data)
    with pytest.raises(FrameBroken):
        frames.receive()


def test_a_frame_on_the_wire_is_two_sizes_a_head_and_blobs(pair: tuple[Frames, socket.socket]) -> None:
    frames, theirs = pair
    frames.send({"a": 1}, b"xy", b"")
    data = theirs.recv(1_000)
    size, head = struct.unpack_from("!II", data)
    assert size == len(data) - 4
    assert json.loads(data[8 : 8 + head]) == {"a": 1, "blobs": [2, 0]}
    assert data[8 + head :] == b"xy"
