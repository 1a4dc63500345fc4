"""The paths of a coordinator's routes for one job, host or service; an id stays one segment, whatever is in it."""

from urllib.parse import quote


def job_path(job_id: str, *more: str) -> str:
    """The path of a job, or of what is below it."""
    return _path("jobs", job_id, *more)


def host_path(host_id: str, *more: str) -> str:
    """The path of a host, or of what is below it."""
    return _path("hosts", host_id, *more)


def service_path(service: str, *more: str) -> str:
    """The path of a service, by its id or name, or of what is below it."""
    return _path("services", service, *more)


def bundle_path(sha256: str) -> str:
    """The path of a packed folder, by its hash."""
    return _path("bundles", sha256)


def _path(kind: str, name: str, *more: str) -> str:
    return "/".join((f"/v1/{kind}", quote(name, safe=""), *more))
