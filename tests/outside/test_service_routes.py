"""What a coordinator's list of services means: the backends of each, and what is left out."""

from collections.abc import Collection
from typing import Any

import pytest

from skyclaw.errors import Invalid
from skyclaw.outside.service_routes import Found, endpoint, is_this_machine, read_listing, read_routes
from skyclaw.services.routing import Backend, Route


def assignment(number: int = 1, status: str = "running", **fields: Any) -> dict[str, Any]:
    own = {"hostId": f"host_{number}", "instanceId": f"ins_{number}", "status": status, "endpoint": f"http://10.0.0.{number}:3100"}
    return {name: value for name, value in {**own, **fields}.items() if value is not None}


def record(*assignments: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "svc_1", "name": "web", "assignments": list(assignments), **fields}


def read(*services: Any, is_local: bool = False) -> Found:
    return read_routes(read_listing({"services": list(services)}, is_local=is_local), lambda names: {name: ["10.0.0.9"] for name in names})


def backend(number: int) -> Backend:
    return Backend(f"ins_{number}", f"http://10.0.0.{number}:3100", "http", f"10.0.0.{number}", 3100)


def test_running_instances_with_an_endpoint_are_backends_and_the_others_are_not() -> None:
    running, pending = assignment(1), assignment(2, "pending", endpoint=None)
    others = [assignment(3, "draining"), assignment(4, "failed"), assignment(5, endpoint=None)]
    assert read(record(running, pending, *others)) == Found((Route("svc_1", "web", (backend(1),)),), 0)


def test_a_service_without_a_backend_is_no_route() -> None:
    assert read(record(assignment(1, "pending", endpoint=None))) == Found((), 0)


def test_the_order_of_the_list_is_kept() -> None:
    found = read(record(assignment(1)), record(assignment(2), id="svc_2"), record(assignment(3), id="svc_0"))
    assert [route.id for route in found.routes] == ["svc_1", "svc_2", "svc_0"]


def test_the_own_health_path_is_taken_if_it_is_one() -> None:
    paths: list[Any] = ["/up?deep=1", None, 7, "up", "/a b", "/\r\n", "/" + "x" * 2_000]
    found = [read(record(assignment(1), health={"path": path, "timeoutMs": 1})).routes[0].health_path for path in paths]
    assert found == ["/up?deep=1", None, None, None, None, None, None]
    assert read(record(assignment(1), health="/up")).routes[0].health_path is None


def test_an_instance_without_an_id_as_the_typescript_skyclaw_lists_it_is_told_apart_by_service_host_and_endpoint() -> None:
    found = read(record(assignment(1, instanceId=None), assignment(2, instanceId=None)))
    assert [one.id for one in found.routes[0].backends] == ["svc_1 host_1 http://10.0.0.1:3100", "svc_1 host_2 http://10.0.0.2:3100"]


def test_an_instance_that_is_listed_twice_is_one_backend() -> None:
    assert read(record(assignment(1), assignment(1))).routes[0].backends == (backend(1),)


def test_the_path_of_an_endpoint_is_its_prefix_without_the_last_slash() -> None:
    found = read(record(assignment(1, endpoint="https://Example.COM/base/api/")))
    assert found.routes[0].backends == (Backend("ins_1", "https://example.com/base/api", "https", "example.com", 443, "/base/api"),)


@pytest.mark.parametrize(
    "text",
    [
        "javascript:alert(1)",
        "ftp://10.0.0.1/",
        "file:///etc/passwd",
        "10.0.0.1:3100",
        "http://",
        "http://10.0.0.1:0",
        "http://10.0.0.1:70000",
        "http://user:password@10.0.0.1:3100",
        "http://10.0.0.1:3100/?a=b",
        "http://10.0.0.1:3100/#a",
        "http://10.0.0.1:3100/a/../b",
        "http://10.0.0.1:3100//a",
        "http://10.0.0.1:3100/a b",
        "http://10.0.0.1:3100/\r\nHost: x",
        "http://10.0.0.1\\@evil:80/",
        "http://0.0.0.0:3100",
        "http://[::]:3100",
        "http://224.0.0.1:3100",
        "http://169.254.169.254/latest",
        "http://100.100.100.200",
        "http://[fe80::1]:3100",
        "http://127.1:3100",
        "http://2130706433:3100",
        "http://0x7f.1:3100",
        "http://0177.0.0.1:3100",
        "http://[::ffff:127.0.0.1]:3100",
        "http://10.0.0.1:3100/" + "x" * 1_000_000,
    ],
)
def test_what_cannot_be_an_endpoint_is_left_out_and_counted(text: str) -> None:
    for is_local in (True, False):
        assert read(record(assignment(1, endpoint=text), assignment(2)), is_local=is_local) == Found(
            (Route("svc_1", "web", (backend(2),)),), 1
        )
        with pytest.raises(Invalid):
            endpoint(text, is_local=is_local)


@pytest.mark.parametrize("text", ["http://127.0.0.1:3100", "http://127.8.8.8:3100", "http://[::1]:3100", "http://localhost:3100"])
def test_loopback_counts_only_from_a_coordinator_on_this_machine(text: str) -> None:
    assert read(record(assignment(1, endpoint=text)), is_local=True).routes[0].backends[0].url == text
    assert read(record(assignment(1, endpoint=text)), is_local=False) == Found((), 1)


@pytest.mark.parametrize("text", ["http://192.168.1.4:3100", "http://100.64.1.2:3100", "http://[fd12::1]:80", "http://kitchen.lan:3100"])
def test_networks_of_ones_own_count_everywhere(text: str) -> None:
    assert read(record(assignment(1, endpoint=text))).skipped == 0


@pytest.mark.parametrize(
    "service",
    [
        None,
        7,
        [],
        {},
        {"id": "svc_2", "name": "api"},
        {"id": "svc_2", "name": "api", "assignments": {"0": assignment(2)}},
        {"id": 7, "name": "api", "assignments": []},
        {"id": "svc_2", "name": None, "assignments": []},
        {"id": "svc_2", "name": "a/b", "assignments": []},
        {"id": "svc_2", "name": "a b", "assignments": []},
        {"id": "svc_2", "name": "n" * 1_000_000, "assignments": [assignment(2)]},
    ],
)
def test_a_service_that_cannot_be_one_is_left_out_and_counted(service: object) -> None:
    assert read(record(assignment(1)), service) == Found((Route("svc_1", "web", (backend(1),)),), 1)


@pytest.mark.parametrize(
    "one",
    [
        assignment(2, instanceId=7),
        assignment(2, instanceId="a b"),
        assignment(2, endpoint=7),
        {**assignment(2, instanceId=None), "hostId": None},
    ],
)
def test_an_assignment_that_cannot_be_one_is_left_out_and_counted(one: dict[str, Any]) -> None:
    assert read(record(assignment(1), one)) == Found((Route("svc_1", "web", (backend(1),)),), 1)


def test_an_assignment_that_is_no_object_is_passed_over() -> None:
    services: Any = record()
    services["assignments"] = [None, "running", assignment(1)]
    assert read(services).routes[0].backends == (backend(1),)


@pytest.mark.parametrize("said", [{}, {"services": None}, {"services": {}}, {"services": "none"}])
def test_an_answer_without_a_list_is_none(said: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        read_listing(said, is_local=True)


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [(["127.0.0.1"], True), (["127.0.1.1", "::1"], True), (["10.0.0.1"], False), (["127.0.0.1", "10.0.0.1"], False), ([], False)],
)
def test_a_coordinator_is_on_this_machine_when_all_its_addresses_are(addresses: list[str], expected: bool) -> None:
    assert is_this_machine("http://somewhere:8787", lambda _host, _port: addresses) is expected


def test_a_coordinator_whose_name_is_not_known_is_elsewhere() -> None:
    def nobody(_host: str, _port: int) -> list[str]:
        raise OSError("name not known")

    assert not is_this_machine("http://somewhere:8787", nobody)
    assert is_this_machine("http://127.0.0.1:8787")
    assert is_this_machine("https://[::1]")


@pytest.mark.parametrize(
    ("addresses", "is_local", "expected"),
    [
        (["10.0.0.1"], False, True),
        (["192.168.0.1", "fd12::1", "93.184.216.34"], False, True),
        (["127.0.0.1"], True, True),
        (["127.0.0.1"], False, False),
        (["10.0.0.1", "127.0.0.1"], False, False),
        (["10.0.0.1", "169.254.169.254"], True, False),
        (["169.254.1.1"], True, False),
        (["fe80::1%eth0"], True, False),
        (["::ffff:169.254.169.254"], True, False),
        (["0.0.0.0"], True, False),  # noqa: S104  # an address to refuse
        (["224.0.0.1"], True, False),
        (["100.100.100.200"], True, False),
        (["no address"], True, False),
        ([], True, False),
    ],
)
def test_every_address_of_a_name_must_be_one_that_may_be_contacted(addresses: list[str], is_local: bool, expected: bool) -> None:
    listing = read_listing({"services": [record(assignment(1, endpoint="http://shop.lan:3100"))]}, is_local=is_local)
    found = read_routes(listing, lambda names: dict.fromkeys(names, addresses))
    assert [backend.places for route in found.routes for backend in route.backends] == [tuple(addresses)] * expected
    assert found.skipped == (not expected)


def test_all_names_are_looked_up_at_once_and_ip_addresses_are_not() -> None:
    asked: list[set[str]] = []

    def find(names: Collection[str]) -> dict[str, list[str]]:
        asked.append(set(names))
        return {"one.lan": ["10.0.0.7"]}

    endpoints = ["http://one.lan:1", "http://two.lan:2", "http://10.0.0.3:3", "http://[fd12::4]:4"]
    listed = [assignment(at, endpoint=endpoint) for at, endpoint in enumerate(endpoints)]
    found = read_routes(read_listing({"services": [record(*listed)]}, is_local=False), find)
    assert asked == [{"one.lan", "two.lan"}]
    assert [backend.places for backend in found.routes[0].backends] == [("10.0.0.7",), ("10.0.0.3",), ("fd12::4",)]
    assert found.skipped == 1


def test_a_backend_whose_name_moves_stays_the_same() -> None:
    listing = read_listing({"services": [record(assignment(1, endpoint="http://shop.lan:3100"))]}, is_local=False)
    first, second = (read_routes(listing, lambda names, to=to: {name: [to] for name in names}) for to in ("10.0.0.1", "10.0.0.2"))
    assert first == second
    assert second.routes[0].backends[0].places == ("10.0.0.2",)
