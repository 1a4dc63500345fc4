"""The route table of a coordinator."""

import falcon
from falcon import Request, Response

from api import errors
from api.auth import TokenAuth
from api.claims import HostClaim
from api.copies import Copies
from api.forwarding import Forwarding
from api.health import Health
from api.hosts import HostHeartbeat, HostMode, HostRegistration, HostResults, Hosts
from api.importing import Imports
from api.job_views import JobEvents, JobExplanation, JobLog
from api.jobs import JobBatch, JobCollection, JobCompletion, JobOrder, JobRelease, OneJob
from api.logs import LogForce, LogTransfer, NetworkLogs
from api.network import NetworkEvict, NetworkJoin, NetworkLeave, NetworkPeers, NetworkProof, NetworkStatus
from api.parts import Parts
from api.replication import ReplicationMessages, ReplicationPull, ReplicationSnapshot
from api.request_ids import RequestIds
from api.services import ServiceClaim, Services
from api.state import State
from api.targets import Targets
from skyclaw.commands import Cancel, Retry
from skyclaw.scheduling.hosts import ACTIVE, DRAINING, PAUSED

JSON = "application/json; charset=utf-8"


def create_app(parts: Parts) -> falcon.App[Request, Response]:
    """The WSGI application of a coordinator made of these parts."""
    forwarding = Forwarding(parts)
    tokens = TokenAuth(parts.tokens, parts.peer_tokens)
    app: falcon.App[Request, Response] = falcon.App(JSON, middleware=[RequestIds(), Targets(), tokens, Copies(parts.cluster)])
    errors.register(app)
    forwarding.register(app)
    hosts = Hosts(parts)

    app.add_route("/health", Health(parts))
    app.add_route("/v1/state", State(parts))

    app.add_route("/v1/hosts", hosts)
    app.add_route("/v1/hosts/register", HostRegistration(parts, forwarding))
    app.add_route("/v1/hosts/{host_id}", hosts, suffix="one")
    app.add_route("/v1/hosts/{host_id}/heartbeat", HostHeartbeat(parts, forwarding))
    app.add_route("/v1/hosts/{host_id}/claim", HostClaim(parts, forwarding))
    app.add_route("/v1/hosts/{host_id}/results", HostResults(parts, forwarding))
    app.add_route("/v1/hosts/{host_id}/services/claim", ServiceClaim(parts))
    app.add_route("/v1/hosts/{host_id}/drain", HostMode(parts, DRAINING))
    app.add_route("/v1/hosts/{host_id}/pause", HostMode(parts, PAUSED))
    app.add_route("/v1/hosts/{host_id}/resume", HostMode(parts, ACTIVE))

    app.add_route("/v1/services", Services())

    app.add_route("/v1/jobs", JobCollection(parts))
    app.add_route("/v1/jobs/batch", JobBatch(parts))
    app.add_route("/v1/jobs/{job_id}", OneJob(parts))
    app.add_route("/v1/jobs/{job_id}/complete", JobCompletion(parts))
    app.add_route("/v1/jobs/{job_id}/release", JobRelease(parts))
    app.add_route("/v1/jobs/{job_id}/cancel", JobOrder(parts, Cancel))
    app.add_route("/v1/jobs/{job_id}/retry", JobOrder(parts, Retry))
    app.add_route("/v1/jobs/{job_id}/log", JobLog(parts))
    app.add_route("/v1/jobs/{job_id}/events", JobEvents(parts))
    app.add_route("/v1/jobs/{job_id}/explain", JobExplanation(parts))

    app.add_route("/v1/import", Imports(parts))

    _add_peer_routes(app, parts)
    return app


def _add_peer_routes(app: falcon.App[Request, Response], parts: Parts) -> None:
    """What coordinators ask each other, where there is somebody who knows the answers."""
    if (network := parts.network) is not None:
        app.add_route("/v1/network/peers", NetworkPeers(network, parts.node))
        app.add_route("/v1/network/join", NetworkJoin(network, parts.node))
        app.add_route("/v1/network/leave", NetworkLeave(network, parts.node))
        app.add_route("/v1/network/evict", NetworkEvict(network, parts.node))
        app.add_route("/v1/network/proof", NetworkProof(network, parts.node))
        app.add_route("/v1/network/status", NetworkStatus(network, parts.node))
        app.add_route("/v1/replicate/snapshot", ReplicationSnapshot(parts.desk, parts.archive, parts.node))
    if network is not None and parts.replication is not None:
        app.add_route("/v1/replicate/messages", ReplicationMessages(network, parts.replication))
        app.add_route("/v1/replicate/pull", ReplicationPull(network, parts.replication))
    if network is not None and (admin := parts.logs_admin) is not None:
        app.add_route("/v1/network/logs", NetworkLogs(admin, network, parts.cluster, parts.node))
        app.add_route("/v1/network/logs/{log}/force", LogForce(admin, network, parts.cluster, parts.node))
        app.add_route("/v1/network/logs/{log}/transfer", LogTransfer(admin, network, parts.cluster, parts.node))
