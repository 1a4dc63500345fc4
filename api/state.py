"""GET /v1/state: everything that is live, and the latest finished jobs, as one document."""

from falcon import Request, Response

from api.parts import Parts
from api.service_views import ServiceViews
from api.views import Views, dump
from skyclaw.answers import Surveyed
from skyclaw.commands import Survey
from skyclaw.scheduling.jobs import Job

MAX_OUTPUTS = 16 * 1024 * 1024  # characters of output in one answer


class State:
    """/v1/state."""

    def __init__(self, parts: Parts) -> None:
        self._node, self._desk, self._archive, self._views = parts.node, parts.desk, parts.archive, Views(parts.node)
        self._services = ServiceViews(parts.node)

    def on_get(self, _req: Request, resp: Response) -> None:
        """Hosts, jobs and services, by the time they were created."""
        surveyed: Surveyed = self._desk.ask(Survey())
        live = [(seen.job, self._views.seen(seen)) for seen in surveyed.see(surveyed.live)]
        finished = [(job, self._views.job(job)) for job in self._with_outputs(surveyed.finished)]
        jobs = [view for _, view in sorted(live + finished, key=lambda shown: (shown[0].created_at, shown[0].position))]
        hosts, services = map(self._views.host, surveyed.hosts), map(self._services.record, surveyed.services)
        resp.data = dump({"nodeId": self._node, "hosts": list(hosts), "jobs": jobs, "services": list(services)})

    def _with_outputs(self, heads: tuple[Job, ...]) -> list[Job]:
        """The finished jobs, with their outputs as far as these fit; the latest to finish come first."""
        jobs, room = {head.id: head for head in heads}, MAX_OUTPUTS
        for head in reversed(heads):
            job = self._archive.job(head.id) if head.result is not None else None
            if job is None or job.version != head.version:  # there is no output, or the job went on since
                continue
            room -= _size(job)
            if room <= 0:
                break
            jobs[job.id] = job
        return list(jobs.values())


def _size(job: Job) -> int:
    return len(job.result.stdout or "") + len(job.result.stderr or "") if job.result is not None else 0
