"""What a host reports."""

from dataclasses import dataclass, replace

import pytest

from skyclaw.hosting import results


@dataclass(frozen=True)
class Ended:
    exit_code: int = 0
    signal: str | None = None
    timed_out: bool = False
    killed: str | None = None
    duration_ms: int = 12
    stdout: str = "out"
    stderr: str = "err"
    stdout_bytes: int = 3
    stderr_bytes: int = 3
    truncated: bool = False
    error: str | None = None


GOOD = Ended()


def test_success_is_exit_code_0_and_carries_what_was_said() -> None:
    assert results.of_process(GOOD, 1_000) == {
        "success": True,
        "durationMs": 12,
        "exitCode": 0,
        "stdout": "out",
        "stderr": "err",
        "stdoutBytes": 3,
        "stderrBytes": 3,
        "truncated": False,
        "timedOut": False,
    }


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (replace(GOOD, exit_code=3), {"exitCode": 3}),
        (replace(GOOD, exit_code=137, timed_out=True), {"exitCode": 1, "error": "timed out after 1500ms", "timedOut": True}),
        (replace(GOOD, exit_code=139, signal="SEGV"), {"exitCode": 139, "signal": "SEGV"}),
        (replace(GOOD, exit_code=127, error="spawn nope ENOENT"), {"exitCode": 127, "error": "spawn nope ENOENT"}),
        (replace(GOOD, exit_code=0, killed="output_limit"), {"exitCode": 1, "error": "output_limit"}),
        (replace(GOOD, exit_code=137, signal="KILL", killed="output_limit"), {"exitCode": 137, "error": "output_limit", "signal": "KILL"}),
    ],
    ids=["exit code", "timeout", "signal", "not started", "killed but 0", "killed"],
)
def test_anything_else_is_a_failure_with_its_reason(ended: Ended, expected: dict[str, object]) -> None:
    result = results.of_process(ended, 1_500)
    assert result["success"] is False
    assert {name: result.get(name) for name in expected} == expected
    assert ("error" in result) == ("error" in expected)


def test_a_refused_command_is_126_after_no_time() -> None:
    assert results.refused("command not allowed: rm", 126) == {
        "success": False,
        "durationMs": 0,
        "exitCode": 126,
        "stdout": "",
        "stderr": "",
        "error": "command not allowed: rm",
    }


def test_outputs_that_are_too_large_get_shorter_with_each_try_and_at_last_are_left_out() -> None:
    large = results.of_process(replace(GOOD, stdout="x" * 8_000, stderr="e"), 1_000)
    once = results.shortened(large, 1)
    assert once["stdout"] == "x" * 1_000 + results.MARK
    assert (once["success"], once["truncated"]) == (True, True)
    twice = results.shortened(once, 2)
    assert len(twice["stdout"]) < 200
    assert twice["stdout"].count(results.MARK) == 1
    last = results.shortened(twice, 3)
    assert (last["success"], last["stdout"], last["stderr"], last["reason"]) == (False, "", "", "result_too_large")
    assert (last["exitCode"], last["durationMs"]) == (1, 12)


def test_a_result_that_no_coordinator_takes_is_reported_as_the_failure_it_is() -> None:
    bad = results.undeliverable(results.of_process(replace(GOOD, exit_code=3), 1), "invalid", "durationMs: too long")
    assert (bad["success"], bad["exitCode"], bad["error"]) == (False, 3, "invalid: durationMs: too long")


@pytest.mark.parametrize(
    ("sizes", "count"),
    [([], 0), ([5 * 1024 * 1024, 1], 1), ([1] * 300, 256), ([1024 * 1024] * 3, 2), ([10, 20], 2)],
    ids=["none", "one that is too large goes alone", "no more than 256", "within the size", "all"],
)
def test_a_batch_is_bounded_by_count_and_size(sizes: list[int], count: int) -> None:
    assert results.batch(sizes) == count
