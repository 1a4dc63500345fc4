"""Whoever wants the network to fail: crashes, cuts, full and lost disks, jumping clocks, new voters, hand-overs, forced takeovers."""

from collections.abc import Callable

from skyclaw.cluster.configuration import Configuration, voters_of
from skyclaw.cluster.replication import Node
from tests.cluster.simulation.world import Coordinator, World

SILENT = 300  # after that a voter is replaced
NEAR = 3  # records behind, and still level
HOUR = 3_600_000


class Adversary:
    """Troubles a world until its storm is over."""

    def __init__(self, world: World) -> None:
        self.world, self.rng, self.plan = world, world.rng, world.plan
        world.loss = self.rng.choice([0, 0.05, 0.2])
        for name in self.rng.sample(world.names, self.plan.down):
            world.at(self.rng.uniform(50, 300), world.crash, world.coordinators[name], True)
        if self.plan.stewarded:
            for p in world.coordinators.values():
                world.at(self.rng.uniform(0, 40), self._steward, p)
        if self.plan.forced:
            world.at(self.rng.uniform(200, 400), self._ruin)
        world.at(60, self._havoc)
        world.at(self.plan.storm_ms, self._heal)

    def _havoc(self) -> None:
        world, rng = self.world, self.rng
        p = world.coordinators[rng.choice(world.names)]
        deeds = [self._crash, self._crash, self._split, self._split, self._oneway, self._mend, self._host, self._full, self._jump]
        deeds += [self._hand_over, self._stop]
        if not self.plan.down and not self.plan.forced:
            deeds += [self._replace if self.plan.stewarded else self._change_voters] * 2
        deed = rng.choice(deeds)
        world.stats[deed.__name__] += 1
        deed(p)
        if world.t + 60 < world.storm_until:
            world.at(rng.uniform(10, 60) / self.plan.violence, self._havoc)

    def _heal(self) -> None:
        world = self.world
        world.loss, world.side, world.oneway, world.storm_until = 0, {}, set(), world.t
        for p in list(world.coordinators.values()):
            p.full_until = 0
            world.start(p)
        for host in [host for host in world.hosts.values() if not host.alive]:
            world.flip(host)

    # What can go wrong

    def _crash(self, p: Coordinator) -> None:
        if p.up:
            self.world.crash(p)
            self.world.at(self.rng.uniform(5, 250), self.world.start, p)

    def _split(self, _: Coordinator) -> None:
        self.world.side = {name: self.rng.randint(0, 1) for name in self.world.names}

    def _oneway(self, _: Coordinator) -> None:
        first, second = self.rng.sample(self.world.names, 2)
        self.world.oneway.add((first, second))

    def _mend(self, _: Coordinator) -> None:
        self.world.side, self.world.oneway = {}, set()

    def _host(self, _: Coordinator) -> None:
        self.world.flip(self.rng.choice(list(self.world.hosts.values())))

    def _full(self, p: Coordinator) -> None:
        p.full_until = self.world.t + self.rng.uniform(1, 150)

    def _jump(self, p: Coordinator) -> None:
        p.offset += self.rng.choice([50, 500, HOUR, 8 * HOUR])

    # What operators and owners want

    def _change_voters(self, _: Coordinator) -> None:
        world, rng = self.world, self.rng
        voters = rng.sample(world.names, rng.randint(2, min(5, len(world.names))))
        wanted = Configuration(frozenset(voters), rng.randint(2, max(2, len(voters) // 2 + 1)))
        self._to_owner(rng.choice(world.founders), lambda node, log, now: node.reconfigure(log, wanted, now))

    def _hand_over(self, p: Coordinator) -> None:
        log = self.rng.choice(self.world.founders)
        self._to_owner(log, lambda node, log, now: node.transfer(log, p.name, now))

    def _to_owner(self, log: str, act: Callable[[Node, str, int], object]) -> None:
        for p in self.world.coordinators.values():
            if p.up and p.node.owns(log):
                self.world.step(p, lambda now, p=p: act(p.node, log, now))  # type: ignore[misc]

    def _stop(self, p: Coordinator) -> None:
        """An orderly stop: first every own log goes to the voter that is most level."""
        if not p.up or p.stopping:
            return
        p.stopping = True
        self.world.step(p, lambda now: self._let_go(p.node, now))
        self.world.at(self.rng.uniform(5, 140), self._end, p, p.life)

    def _let_go(self, node: Node, now: int) -> None:
        for log in node.logs:
            owned = node.ownership(log)
            if owned is not None:
                others = sorted(voters_of(node.replica(log).configuration) - {node.name})
                if others:
                    node.transfer(log, max(others, key=lambda name: owned.followers[name].match if name in owned.followers else 0), now)

    def _end(self, p: Coordinator, life: int) -> None:
        if p.life == life and p.up:
            while p.disk.pending:
                self.world.release(p, p.life)
            self.world.crash(p)
            self.world.at(self.rng.uniform(5, 100), self.world.start, p)

    # Owners that look after their logs

    def _steward(self, p: Coordinator) -> None:
        if p.up:
            for log in p.node.logs:
                if p.node.owns(log):
                    self._look_after(p, log)
        if not p.gone:
            self.world.at(40, self._steward, p)

    def _look_after(self, p: Coordinator, log: str) -> None:
        """Keep as many voters as planned: level learners come, voters that have been silent go."""
        world, replica = self.world, p.node.replica(log)
        present = voters_of(replica.configuration[-1:])
        near = {name for name, t in p.met.items() if world.t - t < SILENT and name in world.coordinators} | {p.name}
        level = {name for name in near if world.coordinators[name] is p or p.levels.get((name, log), 0) >= replica.commit - NEAR}
        kept = [p.name, *sorted((present & near) - {p.name})]
        chosen = [*kept, *sorted((level - present) - {p.name})][: self.plan.voters]
        if len(chosen) == self.plan.voters:
            wanted = Configuration(frozenset(chosen), self.plan.copies)
            world.step(p, lambda now: p.node.reconfigure(log, wanted, now))

    def _replace(self, p: Coordinator) -> None:
        """A disk is lost, where the network can bear it: the node comes back under another id, and is a voter once it is level."""
        world = self.world
        if not p.gone and all(self._can_bear_a_loss(log) for log in world.founders):
            world.wipe(p)
            world.stats["lost disks"] += 1
            world.at(self.rng.uniform(0, 40), self._steward, world.join())

    def _can_bear_a_loss(self, log: str) -> bool:
        """Are all voters there, with one disk more than a write needs, and of one mind about who they are?"""
        nodes, in_force = self.world.coordinators.values(), self.world.check.truth(log).configurations
        if len(in_force) != 1 or not 2 <= in_force[0].copies < len(in_force[0].voters) or not all(q.up or q.gone for q in nodes):
            return False
        of_one_mind = all(q.gone or q.node.replica(log).configuration in (in_force, ()) for q in nodes)
        return of_one_mind and not any(q.gone and q.name in in_force[0].voters for q in nodes)

    # Forced takeover

    def _ruin(self) -> None:
        """All voters of a log but one are lost, or cut off and still at work; an operator forces the log on the one that is left."""
        world, rng = self.world, self.rng
        log = world.founders[0]
        voters = sorted(voters_of(world.check.truth(log).configurations[-1:]))
        if not voters:
            if world.t < self.plan.storm_ms / 2:
                world.at(20, self._ruin)
            return
        survivor = rng.choice(voters)
        others = [name for name in voters if name != survivor]
        if rng.random() < 0.6:
            for name in others:
                world.crash(world.coordinators[name])
                world.at(rng.uniform(150, 500), world.start, world.coordinators[name])
        else:
            world.side = {name: int(name in others) for name in world.names}
        world.at(rng.uniform(10, 150), self._force, survivor, log)

    def _force(self, name: str, log: str) -> None:
        world, rng, p = self.world, self.rng, self.world.coordinators[name]
        world.start(p)
        fresh = [other for other in world.names if other not in voters_of(world.check.truth(log).configurations)]
        voters = [name, *fresh][: rng.randint(1, 1 + len(fresh))]
        wanted = Configuration(frozenset(voters), min(len(voters), 2))
        base, full, p.full_until = len(p.disk.logs.get(log, [])), p.full_until, 0

        def force(now: int) -> None:
            p.node.force(log, wanted, "operator", now)
            world.check.forced(p, log, base, p.node.replica(log).promised.generation)

        world.step(p, force)
        while p.disk.pending:
            world.release(p, p.life)
        p.full_until = full
