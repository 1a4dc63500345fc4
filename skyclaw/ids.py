"""Names that are drawn at random: jobs, services and their instances, hosts, logs, nodes, claims.

A job id is `job_<uuid4>` whose first eight hex digits are its home log's tag, so that anyone who holds the id knows the log.
"""

import itertools
import re
import uuid
from collections.abc import Iterator

SERVICE_ID = re.compile(r"svc_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
INSTANCE_ID = re.compile(r"ins_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
INSTANCE_ID = re.compile(r"ins_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
JOB_ID = re.compile(r"job_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
NUMBER = re.compile(r"[0-9]{1,18}")


def new_log_tag() -> str:
    """Eight hex digits, drawn when a log is founded."""
    return uuid.uuid4().hex[:8]


def new_job_id(log: str) -> str:
    """A job id of the log with that tag."""
    return f"job_{log}{str(uuid.uuid4())[8:]}"


def new_service_id(log: str) -> str:
    """A service id of the log with that tag."""
    return f"svc_{log}{str(uuid.uuid4())[8:]}"


def new_instance_id(log: str) -> str:
    """The id of one instance of a service of the log with that tag."""
    return f"ins_{log}{str(uuid.uuid4())[8:]}"


def new_host_id() -> str:
    """A host id, for a host that did not choose one."""
    return f"host_{uuid.uuid4()}"


def new_node_id(label: str) -> str:
    """A replica's own id, drawn with its database: whoever loses the disk comes back as somebody else."""
    return f"{label}#{uuid.uuid4().hex[:8]}"


def new_claim_ids() -> Iterator[str]:
    """The ids of a host's claims, one after the other: a repetition of a claim gets the same leases.

    A host makes one claim at a time, so when one has been answered, nothing of the earlier ones is on its way (`is_claimed_by`).
    """
    series = uuid.uuid4().hex
    return (f"{series}.{number}" for number in itertools.count(1))


def is_claimed_by(claim_id: str | None, answered: str | None) -> bool:
    """Is it the claim `answered`, or an earlier one of the same series?"""
    series, _, number = (claim_id or "").rpartition(".")
    its_series, _, its_number = (answered or "").rpartition(".")
    if not series or series != its_series or not (NUMBER.fullmatch(number) and NUMBER.fullmatch(its_number)):
        return False
    return int(number) <= int(its_number)
