"""Names that are drawn at random: jobs, hosts, logs, nodes, claims.

A job id is `job_<uuid4>` whose first eight hex digits are its home log's tag, so that anyone who holds the id knows the log.
"""

import re
import uuid

JOB_ID = re.compile(r"job_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def new_log_tag() -> str:
    """Eight hex digits, drawn when a log is founded."""
    return uuid.uuid4().hex[:8]


def new_job_id(log: str) -> str:
    """A job id of the log with that tag."""
    return f"job_{log}{str(uuid.uuid4())[8:]}"


def new_host_id() -> str:
    """A host id, for a host that did not choose one."""
    return f"host_{uuid.uuid4()}"


def new_node_id(label: str) -> str:
    """A replica's own id, drawn with its database: whoever loses the disk comes back as somebody else."""
    return f"{label}#{uuid.uuid4().hex[:8]}"


def new_claim_id() -> str:
    """Names one claim of a host, so that its repetition gets the same lease."""
    return uuid.uuid4().hex
