"""What most tests of services need first: hosts of both kinds, a service, and what a host of ours says."""

from typing import Any

from tests.api.in_process import Client

WEB = {"name": "web", "command": "serve"}


def managed(client: Client, host_id: str = "h1") -> None:
    """A host of ours registers."""
    client.register(host_id, capabilities=["service-host"], labels={"services": "16"})


def unmanaged(client: Client, host_id: str = "h1") -> None:
    """A host of the TypeScript version registers."""
    client.register(host_id, capabilities=["service-host"])


def deploy(client: Client, **fields: Any) -> Any:
    """The service, as the answer shows it."""
    return client.expect(200, client.post("/v1/services", {**WEB, **fields}))["service"]


def sync(client: Client, *instances: Any, host_id: str = "h1", **headers: str) -> Any:
    """What a host hears when its instances are like that."""
    return client.expect(200, client.post(f"/v1/hosts/{host_id}/services/sync", {"instances": list(instances)}, **headers))


def run(client: Client, host_id: str = "h1", **fields: Any) -> str:
    """The host runs what it is to run; returns the id of the (first) instance."""
    instance_id: str = sync(client, host_id=host_id)["instances"][0]["instanceId"]
    sync(client, {"instanceId": instance_id, "status": "running", "port": 3100, **fields}, host_id=host_id)
    return instance_id


def assignment(client: Client, service: str = "web") -> Any:
    """The first assignment of the service."""
    return client.get(f"/v1/services/{service}").json["service"]["assignments"][0]
