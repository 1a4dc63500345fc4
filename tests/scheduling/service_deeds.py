"""What may be wanted of services, and what their hosts may say; each deed knows what must follow."""

from typing import Any

from skyclaw import answers as ans
from skyclaw import commands as cmd
from skyclaw.errors import NotAssigned, Refused, UnknownHost, UnknownService
from tests.scheduling.deeds import Deeds, Key, Refusal
from tests.scheduling.service_judge import ServiceFacts


class ServiceDeeds(Deeds):
    """As in Deeds, arguments are small numbers and words."""

    def facts(self, name: str) -> ServiceFacts | None:
        """What the judge knows of the service of this name."""
        service_id = self.judge.named(name)
        return self.judge.services[service_id] if service_id is not None else None

    # What clients do.

    def deploy(self, name: str, replicas: int | None, key: Key) -> None:
        """Deploy a service, or another revision of it."""
        before = self.facts(name)
        was = before.revision if before is not None else 0
        keyed = self.keyed(key, "/v1/services")
        answer = self.perform(cmd.Deploy(name, "serve", replicas=replicas, required=(), drain_ms=0, keyed=keyed))
        if answer is not None:
            assert (answer.service.name, answer.service.newest.number) == (name, was + 1)
            assert replicas in (None, answer.service.replicas)

    def change_service(self, name: str, what: str, key: Key) -> None:
        """Want something else of a service."""
        facts, keyed = self.facts(name), self.keyed(key, f"/v1/services/{name}/{what}")
        command: cmd.Command
        match what:
            case "stop":
                command = cmd.StopService(name, keyed=keyed)
            case "restart":
                command = cmd.RestartService(name, keyed=keyed)
            case "remove":
                command = cmd.RemoveService(name, keyed=keyed)
            case _:
                command = cmd.Scale(name, int(what), keyed=keyed)
        refusal: Refusal = None
        if facts is None:
            refusal = UnknownService
        elif facts.removed and what not in ("stop", "remove"):
            refusal = Refused
        answer = self.perform(command, refusal)
        if answer is not None and what in ("stop", "remove"):
            assert not answer.service.live

    def look_at_services(self, name: str) -> None:
        """Ask about them."""
        answer = self.perform(cmd.ListServices())
        assert {service.id for service in answer.services} == set(self.judge.services)
        refusal = UnknownService if self.facts(name) is None else None
        found, explained = self.perform(cmd.FindService(name), refusal), self.perform(cmd.ExplainService(name), refusal)
        assert (found is None) is (explained is None) is (refusal is not None)

    # What hosts do.

    def sync(self, number: int, status: str, index: int) -> None:
        """Say of all instances, or of all but one, that they have this status; and name some that have ended."""
        host_id = self.some_host(number)
        mine = {name for name, one in self.judge.instances_of(host_id).items() if one.since <= self.committed}  # others it does not know
        named = sorted(mine)[: -(index % 2) or None]
        gone = sorted(self.judge.ended)[index % 7 : index % 7 + 2]
        news = tuple(cmd.InstanceNews(one, status) for one in named + gone)
        refusal = UnknownHost if host_id not in self.judge.hosts else None
        self.lives(host_id)
        answer: ans.Synced | None = self.perform(cmd.SyncServices(host_id, news), refusal)
        if answer is None:
            return
        self.heard(host_id)
        now_mine = self.judge.instances_of(host_id)
        assert {instance.id: instance.status for _, instance in answer.wanted} == {name: one.status for name, one in now_mine.items()}
        also = set(named) & set(self.judge.ended)  # it takes one of each service, and the other one's news made this one superfluous
        assert status == "ended" or set(gone) <= set(answer.stop)
        assert set(answer.stop) <= set(gone) | also
        if status in ("failed", "ended"):
            assert not set(named) & set(now_mine)

    def claim_service(self, number: int) -> None:
        """Ask for the next service."""
        host_id = self.some_host(number)
        before = {name: one.status for name, one in self.judge.instances_of(host_id).items() if one.status != "draining"}
        refusal = UnknownHost if host_id not in self.judge.hosts else None
        self.lives(host_id)
        answer = self.perform(cmd.ClaimService(host_id), refusal)
        if answer is None:
            return
        self.heard(host_id)
        if "placed" in before.values():
            assert before[answer.instance_id] == "placed"
        assert (answer.instance_id in before) if before else answer.service is None

    def report_service(self, number: int, name: str, status: str, key: Key) -> None:
        """Say how the instance of a service is."""
        host_id, facts = self.some_host(number), self.facts(name)
        mine = [one for one in facts.live if one.host == host_id] if facts is not None else []
        refusal: Refusal = UnknownHost
        if host_id in self.judge.hosts:
            refusal = UnknownService if facts is None else None if mine else NotAssigned
        before, keyed = self.seen.get(host_id), self.keyed(key, f"/v1/services/{name}/report")
        self.lives(host_id)
        answer = self.perform(cmd.ReportService(name, host_id, status, keyed=keyed), refusal)
        if answer is None and before is not None and keyed is not None and (keyed.scope, keyed.key) in self.judge.keys:
            self.seen[host_id] = before  # it was a repetition
        elif answer is not None:
            self.renewed |= dict.fromkeys((name for name, one in facts.instances.items() if one in mine), self.now)

    def heard(self, host_id: str) -> None:
        """The host's instances have their full time again."""
        self.renewed |= dict.fromkeys(self.judge.instances_of(host_id), self.now)

    def lives(self, host_id: str) -> None:
        """The host says something."""
        if host_id in self.judge.hosts:
            self.seen[host_id] = self.now

    # What must be so at any time.

    def services_agree_with_the_events(self) -> None:
        """Every service and every instance is there, as the judge knows it, once, and nothing else."""

        def plain(facts: Any) -> tuple[Any, ...]:
            return facts.name, facts.replicas, facts.stopped, facts.removed

        state, judge = self.state, self.judge
        assert {service.id: plain(service) for service in state.services.values()} == {
            service_id: plain(facts) for service_id, facts in judge.services.items()
        }
        for service_id, facts in judge.services.items():
            service = state.services[service_id]
            assert (service.newest.number, service.version) == (facts.revision, facts.changes)
            assert {one.id: (one.host_id, one.revision, one.status) for one in service.instances} == {
                name: (one.host, one.revision, one.status) for name, one in facts.instances.items()
            }
            assert len(facts.live) <= max(facts.replicas + 1 if facts.wanted else 0, 0)
        hosts = {one.host for facts in judge.services.values() for one in facts.instances.values()}
        assert {host_id: set(placed) for host_id, placed in state.placed.items()} == {
            host_id: set(judge.instances_of(host_id)) for host_id in hosts
        }

    def every_instance_has_a_lease_and_nothing_else_has(self) -> None:
        """Of at least the time that was promised."""
        leases = self.queue.books.home.renewed
        instances = {name for facts in self.judge.services.values() for name in facts.instances}
        assert set(leases) == instances
        assert all(self.renewed[name] <= leases[name] <= self.now for name in instances)

    def check_all(self) -> None:
        super().check_all()
        self.services_agree_with_the_events()
        self.every_instance_has_a_lease_and_nothing_else_has()
