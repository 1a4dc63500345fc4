"""The threads that do for ServiceSupervisor what takes its time."""

import threading

from actors.service_threads import ServiceThreads

PATIENCE_S = 30.0


def test_it_is_done_in_its_order_and_a_failure_is_only_logged() -> None:
    threads, done = ServiceThreads(1, "test"), list[int]()
    threads.do(lambda: done.append(1))
    threads.do(lambda: 1 / 0)
    threads.do(lambda: done.append(2))
    threads.stop(PATIENCE_S)
    assert done == [1, 2]


def test_at_most_so_many_things_are_done_at_the_same_time() -> None:
    threads, names, both = ServiceThreads(2, "test"), list[str](), threading.Barrier(2)

    def work() -> None:
        both.wait(PATIENCE_S)
        names.append(threading.current_thread().name)

    for _ in range(6):
        threads.do(work)
    threads.stop(PATIENCE_S)
    assert len(names) == 6
    assert set(names) == {"test-0", "test-1"}


def test_what_does_not_end_is_not_waited_for() -> None:
    threads, begun, over = ServiceThreads(1, "test"), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        over.wait(10 * PATIENCE_S)

    threads.do(work)
    assert begun.wait(PATIENCE_S)
    threads.stop(0.01)
    over.set()


def test_nothing_has_to_be_stopped_that_was_never_needed() -> None:
    ServiceThreads(1, "test").stop(PATIENCE_S)
