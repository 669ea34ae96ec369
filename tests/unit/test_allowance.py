"""The token bucket that bounds how often something is recorded."""

from setpointd.allowance import Allowance


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def test_a_burst_passes_and_no_more() -> None:
    """As many as the burst pass at once; what comes then is held back."""
    allowance = Allowance(burst=3, per_second=1.0, clock=Clock())
    assert [allowance.take() for _ in range(5)] == [0, 0, 0, None, None]


def test_time_lets_more_pass_and_tells_what_was_held_back() -> None:
    """After a second one more passes, and says how many did not since the last one."""
    clock = Clock()
    allowance = Allowance(burst=1, per_second=1.0, clock=clock)
    assert [allowance.take() for _ in range(4)] == [0, None, None, None]
    clock.now += 1.0
    assert [allowance.take() for _ in range(2)] == [3, None]
    clock.now += 1.0
    assert allowance.take() == 1


def test_a_long_silence_saves_up_no_more_than_a_burst() -> None:
    """However long nothing came, no more than the burst passes at once."""
    clock = Clock()
    allowance = Allowance(burst=2, per_second=1.0, clock=clock)
    clock.now += 3600
    assert [allowance.take() for _ in range(3)] == [0, 0, None]


def test_a_clock_that_is_set_back_takes_nothing_away() -> None:
    """A step back in time neither costs what was left nor gives more."""
    clock = Clock()
    allowance = Allowance(burst=2, per_second=1.0, clock=clock)
    assert allowance.take() == 0
    clock.now -= 86_400
    assert [allowance.take() for _ in range(2)] == [0, None]
    clock.now += 1
    assert allowance.take() == 1
