"""/v1/hosts/{host_id}/claim: a host asks for jobs, and may wait for them."""

import logging
from typing import Any

from falcon import Request, Response

from api import bodies, forwarding
from api.answers import JobAnswers
from api.forwarding import Forwarding, Passing
from api.idempotency import keyed
from api.parts import Parts
from api.schemas import ClaimRequest
from api.searching import Found, Search
from api.views import dump
from skyclaw.answers import Claimed
from skyclaw.commands import Claim, Release
from skyclaw.errors import SkyclawError
from skyclaw.scheduling.books import TAG

logger = logging.getLogger(__name__)

CLAIM = ClaimRequest()
UNHEARD = "its claim was not answered"


class HostClaim:
    """A claim that waits holds a thread of the server; the queue bounds how many do."""

    def __init__(self, parts: Parts, forwarding: Forwarding) -> None:
        self._parts, self._forwarding, self._answers = parts, forwarding, JobAnswers(parts)

    def on_post(self, req: Request, resp: Response, host_id: str) -> None:
        """Lease jobs to the host: the best there are, whoever decides for them."""
        body = bodies.read(req)
        asked = CLAIM.read(body)
        claim = Claim(host_id, asked["limit"], asked["claim_id"], keyed=keyed(req, body))
        search = Search(self._parts, self._forwarding, Passing.of(req, resp), claim)
        answer = search.here() if forwarding.tried(req) else search.everywhere(asked["wait_ms"])
        if isinstance(answer, Found):
            self._pass_on(req, resp, answer, claim)
            return
        if isinstance(answer, Claimed) and answer.jobs and _is_gone(req):
            self._give_back(answer, claim)
            answer = Claimed(())
        resp.data = dump(self._answers.claimed(answer))

    def _pass_on(self, req: Request, resp: Response, found: Found, claim: Claim) -> None:
        """Another coordinator's jobs; if nobody hears of them, that coordinator is told so."""
        if not _is_gone(req):
            forwarding.give_back(resp, found.reply)
            return
        for job in found.jobs:
            job_id, said = str(job["id"]), {"hostId": claim.host_id, "leaseToken": job["leaseToken"], "reason": UNHEARD}
            if claim.claim_id is not None:
                said["claimId"] = claim.claim_id
            release = Passing.of(req, resp).instead(said, f"/v1/jobs/{job_id}/release")
            if self._forwarding.tell_owners(release, [job_id[TAG]])[job_id[TAG]] is None:
                logger.info("lease_not_given_back job=%s", job_id)
        resp.data = dump(self._answers.claimed(Claimed(())))

    def _give_back(self, answer: Claimed, claim: Claim) -> None:
        """Nobody hears this answer: unless the host asked again meanwhile, the jobs need not wait until their leases run out."""
        for seen in answer.jobs:
            try:
                token = seen.job.lease.token if seen.job.lease else None
                self._parts.desk.ask(Release(seen.job.id, claim.host_id, token, UNHEARD, claim.claim_id))
            except SkyclawError as error:
                logger.info("lease_not_given_back job=%s cause=%s", seen.job.id, error.code)


def _is_gone(req: Request) -> bool:
    """Has the client closed the connection while it waited?"""
    gone: Any = req.env.get("waitress.client_disconnected")
    return gone is not None and bool(gone())
