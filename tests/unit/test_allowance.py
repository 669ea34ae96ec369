"""The token bucket that bounds how often something is recorded."""

import threading

from setpointd.allowance import Allowance, Allowances


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


def test_it_tells_how_long_the_next_one_has_to_wait() -> None:
    """Nothing while one may pass; else until the next one may, and then it may."""
    clock = Clock()
    allowance = Allowance(burst=2, per_second=4.0, clock=clock)
    assert [(allowance.take(), allowance.wait_s()) for _ in range(3)] == [(0, 0.0), (0, 0.25), (None, 0.25)]
    clock.now += 0.125
    assert (allowance.take(), allowance.wait_s()) == (None, 0.125)
    clock.now += 0.125
    assert allowance.take() == 2


def test_each_key_has_its_own() -> None:
    """What one uses up, no other lacks; each is told what was held back of its own."""
    clock = Clock()
    allowances = Allowances(most=9, burst=2, per_second=1.0, clock=clock)
    assert [allowances.take(key) for key in "aaaaba"] == [0, 0, None, None, 0, None]
    clock.now += 1
    assert [allowances.take(key) for key in "ab"] == [3, 0]


def test_there_are_never_more_than_so_many() -> None:
    """Who asked longest ago is forgotten first, and begins anew."""
    allowances = Allowances(most=2, burst=1, per_second=1.0, clock=Clock())
    assert [allowances.take(key) for key in "abacb"] == [0, 0, None, 0, 0]
    assert allowances.take("c") is None


def test_several_threads_get_no_more_than_one() -> None:
    """However many ask at once, as many pass as may, and all the others are counted."""
    clock = Clock()
    allowances = Allowances(most=3, burst=10, per_second=1.0, clock=clock)
    passed: list[int] = []

    def ask() -> None:
        passed.extend(taken for _ in range(1000) if (taken := allowances.take("a")) is not None)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passed == [0] * 10
    clock.now += 1
    assert allowances.take("a") == 3990
