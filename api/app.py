"""The route table of a coordinator."""

import falcon
from falcon import Request, Response

from api import errors
from api.auth import TokenAuth
from api.bundles import Bundle
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
from api.service_hosts import ServiceClaim, ServiceReport, ServiceSync
from api.service_logs import ServiceLog, SharedOutputs
from api.service_schemas import RollbackRequest, ScaleRequest
from api.services import OneService, ServiceEvents, ServiceExplanation, ServiceOrder, Services
from api.state import State
from api.targets import Targets
from skyclaw.commands import Cancel, RestartService, Retry, Rollback, Scale, StopService
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
    app.add_route("/v1/hosts/{host_id}/drain", HostMode(parts, DRAINING))
    app.add_route("/v1/hosts/{host_id}/pause", HostMode(parts, PAUSED))
    app.add_route("/v1/hosts/{host_id}/resume", HostMode(parts, ACTIVE))

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

    _add_service_routes(app, parts, forwarding)
    _add_peer_routes(app, parts)
    return app


def _add_service_routes(app: falcon.App[Request, Response], parts: Parts, forwarding: Forwarding) -> None:
    """What users and hosts ask about services."""
    outputs = SharedOutputs(parts.clock)
    app.add_route("/v1/services", Services(parts))
    app.add_route("/v1/services/{service}", OneService(parts))
    app.add_route("/v1/services/{service}/scale", ServiceOrder(parts, Scale, ScaleRequest()))
    app.add_route("/v1/services/{service}/stop", ServiceOrder(parts, StopService))
    app.add_route("/v1/services/{service}/restart", ServiceOrder(parts, RestartService))
    app.add_route("/v1/services/{service}/rollback", ServiceOrder(parts, Rollback, RollbackRequest()))
    app.add_route("/v1/services/{service}/explain", ServiceExplanation(parts))
    app.add_route("/v1/services/{service}/events", ServiceEvents(parts))
    app.add_route("/v1/services/{service}/log", ServiceLog(parts, outputs))
    app.add_route("/v1/services/{service}/report", ServiceReport(parts))
    app.add_route("/v1/hosts/{host_id}/services/claim", ServiceClaim(parts))
    app.add_route("/v1/hosts/{host_id}/services/sync", ServiceSync(parts, forwarding, outputs))
    if parts.bundles is not None:
        app.add_route("/v1/bundles/{sha256}", Bundle(parts.bundles))


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
