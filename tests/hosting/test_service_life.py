"""The life of an instance on its host: each rule as a story, and what must hold in every story."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyclaw.hosting import service_life
from skyclaw.hosting.service_life import Do, Drain, Event, Exited, Life, Passed, Phase, Prepared, Probed, Stop, Terms, Unprepared

TERMS = Terms(health_timeout_ms=10_000, drain_ms=5_000)


@dataclass
class Story:
    """A life that is told one event after the other; `now` is its clock, `done` all that was to be done."""

    life: Life = field(default_factory=lambda: Life(TERMS))
    now: int = 1_000_000
    done: list[Do] = field(default_factory=list)

    def tell(self, *events: Event) -> tuple[Do, ...]:
        """What follows from the events, the last of them if there are several."""
        orders: tuple[Do, ...] = ()
        for event in events:
            self.life, orders = service_life.after(self.life, event, self.now)
            self.done += orders
        return orders

    def wait(self, ms: int) -> tuple[Do, ...]:
        """Time passes."""
        self.now += ms
        return self.tell(Passed())

    def start(self) -> None:
        """Until there is a process; after a pause, if there is one."""
        if self.life.phase is Phase.PAUSING:
            assert self.life.due is not None
            self.wait(self.life.due - self.now)
        else:
            self.tell(Prepared())
        assert self.life.phase is Phase.STARTING

    def run(self) -> None:
        """Until it is running."""
        self.start()
        self.tell(Probed(self.life.run, None))
        assert self.life.phase is Phase.RUNNING

    def exit(self, error: str = "exited with code 1", counts: bool = True) -> None:
        """Its process ends."""
        self.tell(Exited(self.life.run, error, counts))

    def pause(self) -> int:
        """How long it pauses."""
        assert self.life.phase is Phase.PAUSING
        assert self.life.due is not None
        return self.life.due - self.now


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_prepared_instance_is_started_probed_and_running(story: Story) -> None:
    assert story.life.status == "starting"
    assert story.tell(Prepared()) == (Do.START,)
    assert story.wait(0) == (Do.PROBE,)
    assert story.wait(1_000) == ()  # the first probe is not back
    assert story.tell(Probed(1, "connection refused")) == ()
    assert story.wait(199) == ()
    assert story.wait(1) == (Do.PROBE,)
    story.tell(Probed(1, None))
    assert (story.life.status, story.life.error) == ("running", None)
    assert story.wait(4_999) == ()
    assert story.wait(1) == (Do.PROBE,)


def test_what_cannot_be_prepared_now_is_tried_again(story: Story) -> None:
    story.tell(Unprepared("no coordinator answers", for_good=False))
    assert (story.life.status, story.life.error, story.pause()) == ("starting", "no coordinator answers", 100)
    assert story.wait(100) == (Do.PREPARE,)
    for _ in range(10):  # the host's trouble is not the service's failure
        story.tell(Unprepared("no coordinator answers", for_good=False))
        story.wait(story.pause())
    assert story.tell(Prepared()) == (Do.START,)


def test_what_can_never_be_prepared_has_failed(story: Story) -> None:
    story.tell(Unprepared("command not allowed: rm", for_good=True))
    assert (story.life.status, story.life.error, story.done) == ("failed", "command not allowed: rm", [])


def test_a_process_that_does_not_get_healthy_is_terminated_and_started_again(story: Story) -> None:
    story.start()
    story.wait(0)
    story.tell(Probed(1, "status 500"))
    assert story.wait(10_000) == (Do.TERMINATE,)
    assert (story.life.status, story.life.error) == ("starting", "not healthy within 10 s: status 500")
    assert story.wait(60_000) == ()
    story.exit("killed by TERM")
    assert story.life.error == "not healthy within 10 s: status 500"
    assert story.wait(100) == (Do.START,)
    assert story.life.run == 2


def test_a_running_process_is_terminated_after_three_bad_probes_in_a_row(story: Story) -> None:
    story.run()
    for error in ["status 500", "status 500", None, "status 500", "status 500"]:
        assert story.wait(5_000) == (Do.PROBE,)
        assert story.tell(Probed(1, error)) == ()
    assert story.wait(5_000) == (Do.PROBE,)
    assert story.tell(Probed(1, "status 503")) == (Do.TERMINATE,)
    assert (story.life.status, story.life.error) == ("starting", "not healthy any more: status 503")


def test_the_answer_of_a_probe_of_a_former_process_counts_for_nothing(story: Story) -> None:
    story.start()
    story.exit()
    story.start()
    story.tell(Probed(1, None), Exited(1, "late"))
    assert story.life.phase is Phase.STARTING


def test_pauses_grow_and_begin_anew_after_a_minute_of_running() -> None:
    story, pauses = Story(), []
    story.life = Life(TERMS, ever_healthy=True)
    for _ in range(8):
        story.start()
        story.now += 60_000  # so that no five restarts are within a minute
        story.exit()
        pauses.append(story.pause())
    assert pauses == [100, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
    story.run()
    story.now += 59_999
    story.exit()
    assert story.pause() == 30_000
    story.run()
    story.now += 60_000
    story.exit()
    assert story.pause() == 100


def test_three_starts_without_a_healthy_process_are_enough(story: Story) -> None:
    for _ in range(3):
        story.start()
        story.exit("exited with code 4")
    assert (story.life.status, story.life.error, story.life.run) == ("failed", "exited with code 4", 3)


def test_what_was_healthy_once_may_fail_more_often_but_not_six_times_in_a_minute(story: Story) -> None:
    story.run()
    for _ in range(5):
        story.exit()
        story.start()
    story.exit("killed by SEGV")
    assert (story.life.status, story.life.error) == ("failed", "killed by SEGV; it was started again 5 times within 60 s")


def test_five_restarts_in_more_than_a_minute_are_not_too_many(story: Story) -> None:
    story.run()
    for _ in range(20):
        story.now += 12_001
        story.exit()
        story.run()
    assert story.life.status == "running"


def test_what_is_the_hosts_own_fault_does_not_count(story: Story) -> None:
    for _ in range(20):
        story.start()
        story.exit("executor died", counts=False)
    assert (story.life.status, story.life.error) == ("starting", "executor died")


def test_a_drained_process_goes_on_for_the_drain_time(story: Story) -> None:
    story.run()
    assert story.tell(Drain()) == ()
    assert story.life.status == "running"
    assert story.tell(Drain()) == ()
    assert story.wait(4_999) == ()
    assert story.wait(1) == (Do.TERMINATE,)
    assert story.wait(60_000) == ()
    assert story.life.status == "starting"  # and not to be asked any more
    story.exit("killed by TERM")
    assert (story.life.status, story.life.error) == ("ended", None)


def test_a_drained_process_that_exits_is_not_started_again(story: Story) -> None:
    story.run()
    story.tell(Drain())
    story.exit()
    assert story.life.status == "ended"


@pytest.mark.parametrize("event", [Drain(), Stop()])
def test_what_is_not_healthy_is_not_worth_waiting_for(story: Story, event: Event) -> None:
    story.start()
    assert story.tell(event) == (Do.TERMINATE,)
    story.exit()
    assert story.life.status == "ended"


@pytest.mark.parametrize("event", [Drain(), Stop()])
def test_what_is_terminated_already_is_not_terminated_again_and_ends(story: Story, event: Event) -> None:
    story.start()
    assert story.wait(10_000) == (Do.TERMINATE,)
    assert story.tell(event) == ()
    story.exit()
    assert story.life.status == "ended"


def test_a_stop_cuts_a_drain_short(story: Story) -> None:
    story.run()
    story.tell(Drain())
    assert story.tell(Stop()) == (Do.TERMINATE,)


@pytest.mark.parametrize("event", [Drain(), Stop()])
@pytest.mark.parametrize("before", ["preparing", "pausing", "failed"])
def test_what_has_no_process_has_ended_at_once(story: Story, event: Event, before: str) -> None:
    if before == "pausing":
        story.start()
        story.exit()
    if before == "failed":
        story.tell(Unprepared("no", for_good=True))
    assert story.tell(event) == ()
    assert (story.life.status, story.life.over) == ("ended", True)
    assert story.tell(Prepared(), Passed(), Probed(story.life.run, None), Exited(story.life.run, "late")) == ()
    assert story.life.status == "ended"


EVENTS = st.one_of(
    st.just(Prepared()),
    st.builds(Unprepared, st.just("not now"), st.booleans()),
    st.builds(Exited, st.integers(0, 4), st.just("exited"), st.booleans()),
    st.builds(Probed, st.integers(0, 4), st.sampled_from([None, "bad"])),
    st.just(Drain()),
    st.just(Stop()),
    st.just(Passed()),
    st.just("exit"),
    st.just("probe"),
)


@given(st.lists(st.tuples(st.integers(0, 40_000), EVENTS), max_size=60))
def test_whatever_happens_there_is_one_process_and_it_is_ended_once(happened: list[tuple[int, Event | str]]) -> None:
    story, living, terminated, wanted = Story(), False, False, True
    for later, event in happened:
        story.now += later
        real = (
            {"exit": Exited(story.life.run, "exited"), "probe": Probed(story.life.run, "bad")}[event] if isinstance(event, str) else event
        )
        if isinstance(real, Exited) and not living:
            continue  # nothing can exit
        before, over = story.life, story.life.over
        orders = story.tell(real)
        if isinstance(real, Exited) and real.run == before.run:
            living = terminated = False
        wanted = wanted and not isinstance(real, Drain | Stop)
        for order in orders:
            assert not over, "what is over asks for nothing"
            match order:
                case Do.START:
                    assert wanted
                    assert not living
                    living = True
                case Do.TERMINATE:
                    assert living
                    assert not terminated
                    terminated = True
                case Do.PROBE:
                    assert living
        assert story.life.has_process == living
        assert not (story.life.over and living)
    story.tell(Stop())
    if living:
        story.exit()
    assert story.life.status == "ended"
