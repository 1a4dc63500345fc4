"""Which announced addresses are contacted: those of coordinators, and never a trap."""

import ipaddress
import socket
from collections.abc import Iterator

import pytest

from skyclaw.outside.peer_addresses import DEFAULT_NETWORKS, BadPeerUrl, check, check_literal, local_address, parse, resolve

FAR, NEAR = "203.0.113.9", "127.0.0.1"  # senders
NAMES = {
    "good.example": ["93.184.215.14"],
    "home.example": ["192.168.1.4"],
    "trap.example": ["127.0.0.1"],
    "half.example": ["93.184.215.14", "169.254.169.254"],
    "six.example": ["2606:4700::1111"],
    "empty.example": [],
}


def find(host: str, _port: int) -> list[str]:
    """Names as the table has them; numbers as they are."""
    if host in NAMES:
        return NAMES[host]
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        raise OSError("not known") from None


@pytest.mark.parametrize(
    ("text", "normal", "addresses"),
    [
        ("http://good.example:8787", "http://good.example:8787", ("93.184.215.14",)),
        ("http://GOOD.example:8787/", "http://good.example:8787", ("93.184.215.14",)),
        ("https://good.example", "https://good.example", ("93.184.215.14",)),
        ("https://good.example:443/", "https://good.example", ("93.184.215.14",)),
        ("http://good.example.:80", "http://good.example", ("93.184.215.14",)),
        ("http://home.example:1", "http://home.example:1", ("192.168.1.4",)),
        ("http://10.1.2.3:65535", "http://10.1.2.3:65535", ("10.1.2.3",)),
        ("http://172.31.255.1:1", "http://172.31.255.1:1", ("172.31.255.1",)),
        ("http://[2606:4700:0:0::1111]:8787", "http://[2606:4700::1111]:8787", ("2606:4700::1111",)),
        ("http://[fd12::1]:8787", "http://[fd12::1]:8787", ("fd12::1",)),
    ],
)
def test_a_good_address_is_normalised_and_pinned(text: str, normal: str, addresses: tuple[str, ...]) -> None:
    pinned = check(text, FAR, find=find)
    assert (str(pinned.url), pinned.addresses) == (normal, addresses)


WRONG = [
    "",
    "good.example:8787",
    "//good.example",
    "ftp://good.example",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "http://",
    "http://[::1",
    "http://[good.example]",
    "http://:8787",
    "http://good.example:0",
    "http://good.example:65536",
    "http://good.example:x",
    "http://good.example:\uff18\uff17",
    "http://user@good.example",
    "http://user:word@good.example",
    "http://good.example/path",
    "http://good.example/?q",
    "http://good.example?",
    "http://good.example#",
    "http://good.example\\@home.example",
    "http://good.example /",
    "http://good\n.example",
    "http://gööd.example",
    "http://-good.example",
    "http://good..example",
    "http://%31%32%37.0.0.1",
    f"http://{'a' * 254}",
    f"http://good.example/{'x' * 2048}",
    # IP addresses in a disguise, whoever announces them
    "http://127.1:1",
    "http://2130706433",
    "http://0/",
    "http://0x7f.1",
    "http://0x7f000001",
    "http://0177.0.0.1",
    "http://127.0.0.1.",
    "http://[::ffff:127.0.0.1]",
    "http://[::ffff:7f00:1]",
    "http://[fe80::1%25eth0]",
    "http://127.0.0.01",
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_address_of_a_coordinator_is_refused_for_everybody(text: str) -> None:
    for sender in (FAR, NEAR, None):
        with pytest.raises(BadPeerUrl):
            check(text, sender, find=find)
        with pytest.raises(BadPeerUrl):
            check_literal(text, sender)


FORBIDDEN = [
    "http://0.0.0.0:1",
    "http://[::]:1",
    "http://169.254.169.254",
    "http://169.254.1.1",
    "http://[fe80::1]",
    "http://[fd00:ec2::254]",
    "http://100.100.100.200",
    "http://224.0.0.1",
    "http://[ff02::1]",
    "http://255.255.255.255",
    "http://240.0.0.1",
    "http://[64:ff9b::7f00:1]",  # NAT64 of 127.0.0.1
    "http://[2002:7f00:1::]",  # 6to4 of it
    "http://[64:ff9b::a9fe:a9fe]",
    "http://100.64.1.1",  # shared by the customers of a provider
    "http://192.0.2.1",
    "http://half.example",  # one of its addresses is forbidden
    "http://none.example",
    "http://empty.example",
]
OUR_OWN = ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:1", "http://trap.example", "http://[::127.0.0.1]"]


@pytest.mark.parametrize("text", FORBIDDEN + OUR_OWN)
def test_what_no_stranger_may_send_us_to_is_refused(text: str) -> None:
    for sender in (FAR, None):
        with pytest.raises(BadPeerUrl):
            check(text, sender, find=find)


@pytest.mark.parametrize("text", ["http://127.0.0.1:1", "http://[::1]:1", "http://trap.example"])
@pytest.mark.parametrize("sender", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may_be_announced_from_this_machine(text: str, sender: str) -> None:
    assert check(text, sender, find=find).addresses


@pytest.mark.parametrize("sender", [FAR, "::ffff:203.0.113.9", "192.168.1.4"])
def test_and_from_nowhere_else(sender: str) -> None:
    with pytest.raises(BadPeerUrl, match="this machine"):
        check("http://127.0.0.1:1", sender, find=find)


def test_the_operator_says_which_private_networks_count() -> None:
    mine = (ipaddress.ip_network("100.64.0.0/10"),)
    assert check("http://100.64.1.1:8787", FAR, mine, find).addresses == ("100.64.1.1",)
    assert check("http://good.example", FAR, (), find).addresses
    with pytest.raises(BadPeerUrl, match="SKYCLAW_PEER_CIDRS"):
        check("http://192.168.1.4:8787", FAR, mine, find)


def test_metadata_is_forbidden_even_where_its_network_is_allowed() -> None:
    everything = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    for text in ("http://169.254.169.254", "http://[fd00:ec2::254]", "http://100.100.100.200", "http://[64:ff9b::a9fe:a9fe]"):
        with pytest.raises(BadPeerUrl):
            check(text, FAR, everything, find)


@pytest.mark.parametrize("text", ["http://127.0.0.1:1", "http://trap.example", "http://100.64.1.1:9"])
def test_what_the_operator_configured_is_exempt(text: str) -> None:
    assert check(text, None, find=find, configured=True).addresses


def test_a_name_is_resolved_once_so_that_it_cannot_change_its_mind() -> None:
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])
    assert check("http://rebinding.example", FAR, find=lambda _host, _port: next(answers)).addresses == ("93.184.215.14",)
    assert next(answers) == ["127.0.0.1"]


def test_a_literal_is_judged_without_asking_anybody() -> None:
    assert str(check_literal("http://Trap.Example:1/", FAR)) == "http://trap.example:1"
    with pytest.raises(BadPeerUrl):
        check_literal("http://169.254.169.254", FAR, DEFAULT_NETWORKS)


def test_the_system_resolves_this_machines_name() -> None:
    assert set(resolve("localhost", 1)) & {"127.0.0.1", "::1"}
    with pytest.raises(BadPeerUrl):
        check("http://localhost:1", FAR)


@pytest.fixture
def canary() -> Iterator[socket.socket]:
    """Listens on this machine; nobody should come."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def test_checking_contacts_nobody(canary: socket.socket) -> None:
    port = canary.getsockname()[1]
    for host in ("127.0.0.1", "127.1", "2130706433", "0", "[::ffff:127.0.0.1]", "localhost", "0x7f.1"):
        with pytest.raises(BadPeerUrl):
            check(f"http://{host}:{port}", FAR)
    check(f"http://127.0.0.1:{port}", NEAR)
    with pytest.raises(BlockingIOError):
        canary.accept()


def test_parts_of_an_address() -> None:
    assert (parse("http://[::1]:8787").authority, parse("https://[::1]").authority) == ("[::1]:8787", "[::1]")


ANY4, ANY6 = "0.0.0.0", "::"  # noqa: S104 only texts


def test_the_own_address_is_that_of_the_way_to_the_first_peer_that_is_known() -> None:
    assert local_address(["http://unknown.example", "http://trap.example"], ANY4, find) == "127.0.0.1"
    assert local_address(["http://[::1]:1", "http://trap.example"], ANY4, find) == "127.0.0.1"
    for urls in ([], ["http://unknown.example"], ["http://empty.example"], ["http://[::1]:1"]):
        assert local_address(urls, ANY4, find) is None


def test_one_that_others_can_reach_is_preferred() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("93.184.215.14", 8787))
        except OSError:
            pytest.skip("this machine has no network")
        own = sock.getsockname()[0]
    assert local_address(["http://trap.example", "https://good.example"], ANY4, find) == own
    assert local_address(["http://trap.example", "https://good.example"], ANY6, find) == own
