"""A network of namespaces on one bridge, whose cables can be cut, in one direction or both. Needs root and the `ip` command.

A cut is silent, as a broken cable is: packets go to a hardware address that nobody has, so nothing tells the sender. What an interrupted
test leaves behind is removed by the next one.
"""

import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

PREFIX = "skyclaw-"
NOWHERE = "02:00:00:00:00:01"  # a hardware address of nobody
DARK_TABLE = "77"  # routes that lead nowhere

needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None,
    reason="makes network namespaces: run the tests as root, with the command ip (package iproute2) installed",
)


def ip(*words: str, check: bool = True) -> str:
    """What `ip` prints."""
    ran = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30, check=False)
    assert not check or ran.returncode == 0, f"ip {' '.join(words)}: {ran.stderr}"
    return ran.stdout


class Network:
    """`count` namespaces, numbered from 0; this process reaches all of them, whatever is cut between them."""

    def __init__(self, count: int) -> None:
        remove_leftovers()
        tag = os.getpid()
        self._bridge, self._subnet = f"skb{tag}", _free_subnet()
        self._names = [f"{PREFIX}{tag}-{number}" for number in range(count)]
        try:
            ip("link", "add", self._bridge, "type", "bridge")
            ip("addr", "add", f"{self._subnet}.254/24", "dev", self._bridge)
            ip("link", "set", self._bridge, "up")
            for number, name in enumerate(self._names):
                self._connect(number, name, f"sk{tag}v{number}")
        except BaseException as error:
            self.remove()
            if isinstance(error, AssertionError):
                pytest.skip(f"no network namespaces can be made here: {error}")
            raise

    def address(self, number: int) -> str:
        """The IP address of a namespace."""
        return f"{self._subnet}.{number + 1}"

    def inside(self, number: int) -> list[str]:
        """The words before a command that is to run in a namespace."""
        return ["ip", "netns", "exec", self._names[number]]

    def cut(self, *sides: set[int]) -> None:
        """Nothing goes from one of these sides to another."""
        for one in sides:
            for other in sides:
                if one is not other:
                    for src in one:
                        for dst in other:
                            self.cut_one_way(src, dst)

    def cut_one_way(self, src: int, dst: int) -> None:
        """Nothing that `src` sends arrives at `dst`, its answers included."""
        ip("-n", self._names[src], "neigh", "replace", self.address(dst), "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent")

    def cut_calls(self, src: int, dst: int, port: int) -> None:
        """What `src` sends to that port of `dst` does not arrive; when `dst` calls, `src` can answer."""
        inside = ("-n", self._names[src])
        ip(*inside, "neigh", "replace", f"{self._subnet}.253", "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent")
        ip(*inside, "route", "replace", "default", "via", f"{self._subnet}.253", "dev", "eth0", "table", DARK_TABLE)
        ip(*inside, "rule", "add", "to", self.address(dst), "ipproto", "tcp", "dport", str(port), "lookup", DARK_TABLE)

    def heal(self) -> None:
        """Nothing is cut any more."""
        for name in self._names:
            ip("-n", name, "neigh", "flush", "dev", "eth0", "nud", "permanent")
            while DARK_TABLE in ip("-n", name, "rule", "show"):
                ip("-n", name, "rule", "del", "table", DARK_TABLE)

    def remove(self) -> None:
        """Leave nothing behind; what still runs inside is killed."""
        for name in self._names:
            _remove_namespace(name)
        ip("link", "del", self._bridge, check=False)

    def _connect(self, number: int, name: str, cable: str) -> None:
        ip("netns", "add", name)
        ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", cable, "master", self._bridge, "up")
        ip("-n", name, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", name, "link", "set", device, "up")


def remove_leftovers() -> None:
    """Remove what tests left behind whose process is gone."""
    for name in [line.split()[0] for line in ip("netns", "list").splitlines() if line.startswith(PREFIX)]:
        if not _lives(name.removeprefix(PREFIX).split("-")[0]):
            _remove_namespace(name)
    for device in [path.name for path in Path("/sys/class/net").glob("skb*")]:
        if not _lives(device.removeprefix("skb")):
            ip("link", "del", device, check=False)


def _remove_namespace(name: str) -> None:
    if not Path("/run/netns", name).exists():
        return
    for pid in ip("netns", "pids", name, check=False).split():
        os.kill(int(pid), signal.SIGKILL)
    ip("netns", "del", name, check=False)


def _lives(pid: str) -> bool:
    return Path("/proc", pid).exists()


def _free_subnet() -> str:
    """The first three numbers of a /24 that nothing here is in."""
    taken = ip("-o", "-4", "addr", "show") + ip("route", "show")
    while f" {(subnet := f'10.{random.randrange(64, 128)}.{random.randrange(256)}')}." in taken:  # noqa: S311  # no secret
        pass
    return subnet
