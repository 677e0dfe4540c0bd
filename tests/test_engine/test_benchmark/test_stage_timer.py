# SPDX-License-Identifier: Apache-2.0
import pytest

from ovavss_mm.engine.benchmark.timer import Hook, StageTimer, WallClock, patched


class FakeClock:
    """A clock that tests move."""

    def __init__(self):
        self.now = 0
        self.synced = 0

    def mark(self):
        return self.now

    def sync(self):
        self.synced += 1

    def between(self, start, end):
        return end - start


class Machine:
    """Something with methods that take time on a clock."""

    def __init__(self, clock):
        self.clock = clock

    def outer(self):
        """1, then what inner takes, then 2."""
        self.clock.now += 1
        result = self.inner(10)
        self.clock.now += 2
        return result

    def inner(self, time):
        """A given time."""
        self.clock.now += time
        return time

    def fail(self):
        """5, and an error."""
        self.clock.now += 5
        raise KeyError('broken')


@pytest.fixture
def machine():
    return Machine(FakeClock())


def hooks(machine, *names):
    return [Hook(name, machine, name) for name in names]


def test_each_moment_belongs_to_the_innermost_stage(machine):
    timer = StageTimer(machine.clock)
    with patched(hooks(machine, 'outer', 'inner'), timer.wrap), timer.step():
        machine.clock.now += 100
        assert machine.outer() == 10
        machine.inner(7)
        machine.clock.now += 200
    assert timer.steps == [dict(outer=3, inner=17, other=300)]
    assert sum(timer.steps[0].values()) == machine.clock.now
    assert machine.clock.synced == 2  # before the step, and before its readings are compared


def test_a_stage_within_itself_counts_once(machine):
    timer = StageTimer(machine.clock)
    with timer.step(), timer.stage('a'):
        machine.clock.now += 1
        with timer.stage('a'):
            machine.clock.now += 2
    assert timer.steps == [dict(a=3, other=0)]


def test_steps_add_up_and_nothing_is_measured_between(machine):
    timer = StageTimer(machine.clock)
    wrapped = timer.wrap('inner', machine.inner)
    wrapped(1000)
    for time in (1, 2):
        with timer.step():
            wrapped(time)
    assert [step['inner'] for step in timer.steps] == [1, 2]
    with pytest.raises(RuntimeError, match='step within a step|begun within'):
        with timer.step(), timer.step():
            pass


def test_methods_are_put_back_after_errors(machine):
    own = lambda time: -time  # noqa: E731
    machine.inner = own
    timer = StageTimer(machine.clock)
    with pytest.raises(KeyError, match='broken'):
        with patched(hooks(machine, 'outer', 'inner', 'fail'), timer.wrap), timer.step():
            assert 'outer' in vars(machine) and machine.inner is not own
            machine.fail()
    assert vars(machine).keys() == {'clock', 'inner'} and machine.inner is own
    assert timer.steps == []  # half a step is none
    with timer.step():
        machine.clock.now += 4
    assert timer.steps == [dict(other=4)]


def test_an_error_within_a_stage_ends_it(machine):
    timer = StageTimer(machine.clock)
    with patched(hooks(machine, 'fail'), timer.wrap), timer.step():
        with pytest.raises(KeyError):
            machine.fail()
        machine.clock.now += 3
    assert timer.steps == [dict(fail=5, other=3)]


def test_a_method_that_is_not_there_is_named_and_the_others_put_back(machine):
    with pytest.raises(AttributeError, match='gone'):
        with patched(hooks(machine, 'outer', 'gone'), lambda _, method: method):
            pass
    assert 'outer' not in vars(machine)


def test_two_wrappers_of_a_method_come_off_in_turn(machine):
    twice = [Hook('a', machine, 'inner'), Hook('b', machine, 'inner')]
    timer = StageTimer(machine.clock)
    with patched(twice, timer.wrap), timer.step():
        machine.inner(2)
    assert timer.steps == [dict(a=2, b=0, other=0)]
    assert 'inner' not in vars(machine)


def test_real_stages_sum_up_to_the_total():
    timer, whole = StageTimer(WallClock()), WallClock()
    start = whole.mark()
    with timer.step():
        with timer.stage('a'):
            sum(range(1000))
    assert 0 < sum(timer.steps[0].values()) <= whole.between(start, whole.mark())
