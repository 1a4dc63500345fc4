"""Names of hosts: looked up in the background, kept for a while, and never waited for longer than said."""

import socket
import threading
from collections import Counter

import pytest

from skyclaw.outside.names import Names
from tests.support.real_processes import wait_until


class System:
    """Knows `names`; what is in `stuck` is not answered until `let`."""

    def __init__(self) -> None:
        self.names: dict[str, list[str] | OSError] = {"one": ["10.0.0.1", "10.0.0.2"], "two": ["10.0.0.3"]}
        self.asked: Counter[str] = Counter()
        self.stuck: set[str] = set()
        self.let = threading.Event()

    def __call__(self, name: str, _port: int) -> list[str]:
        self.asked[name] += 1
        if name in self.stuck:
            assert self.let.wait(30)
        found = self.names.get(name, socket.gaierror(socket.EAI_NONAME, "not known"))
        if isinstance(found, OSError):
            raise found
        return found


def test_the_addresses_of_known_names_are_found_and_others_are_left_out() -> None:
    names = Names(System())
    assert names.find(["one", "two", "three"]) == {"one": ("10.0.0.1", "10.0.0.2"), "two": ("10.0.0.3",)}
    names.stop()


def test_an_answer_counts_for_a_while_also_that_a_name_is_not_known() -> None:
    system = System()
    names = Names(system, kept_s=600)
    for _ in range(5):
        names.find(["one", "three"])
    assert system.asked == {"one": 1, "three": 1}


def test_a_name_is_looked_up_again_later() -> None:
    system = System()
    names = Names(system, kept_s=0.0)
    names.find(["one"])
    system.names["one"] = ["10.0.0.9"]
    wait_until(lambda: names.find(["one"]) == {"one": ("10.0.0.9",)}, "the new address is found")
    del system.names["one"]
    wait_until(lambda: names.find(["one"]) == {}, "it is not known any more")


def test_who_is_not_answered_does_not_wait_for_long_and_holds_up_no_other() -> None:
    system = System()
    system.stuck = {"one"}
    names = Names(system, within_s=0.2, kept_s=600)
    assert names.find(["one"]) == {}
    assert names.find(["one", "two"]) == {"two": ("10.0.0.3",)}
    assert system.asked["one"] == 1
    system.let.set()
    wait_until(lambda: "one" in names.find(["one"]), "it is found in the end")


def test_a_name_that_is_known_is_not_waited_for() -> None:
    system = System()
    names = Names(system, within_s=600, kept_s=0.0)
    names.find(["one"])
    system.stuck = {"one"}
    assert names.find(["one"]) == {"one": ("10.0.0.1", "10.0.0.2")}
    system.let.set()


def test_what_was_known_counts_while_nobody_can_tell() -> None:
    system = System()
    names = Names(system, kept_s=0.0)
    names.find(["one"])
    system.names["one"] = socket.gaierror(socket.EAI_AGAIN, "try again")
    wait_until(lambda: [names.find(["one"]) for _ in range(2)] and system.asked["one"] >= 3, "it was looked up again")
    assert names.find(["one"]) == {"one": ("10.0.0.1", "10.0.0.2")}


def test_one_host_is_found_and_an_ip_address_is_its_own() -> None:
    system = System()
    names = Names(system)
    assert names.resolve("two", 80) == ["10.0.0.3"]
    assert names.resolve("10.1.1.1", 80) == ["10.1.1.1"]
    with pytest.raises(OSError, match="three"):
        names.resolve("three", 80)
    assert "10.1.1.1" not in system.asked
