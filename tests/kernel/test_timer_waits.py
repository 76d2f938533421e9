"""KTIMER as something to wait for."""

from __future__ import annotations

import pytest

from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import EventType
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import DISPATCH_LEVEL
from tests.support import System, now

NOTIFICATION, SYNCHRONIZATION = EventType.NOTIFICATION, EventType.SYNCHRONIZATION
MS = 1_000_000


@pytest.mark.parametrize("kind", list(EventType))
def test_a_wait_for_a_timer_is_over_when_it_expires(kind: EventType) -> None:
    system, timer = System(), Ktimer(kind)
    system.ke.set_timer(timer, relative_ms(30))
    assert system.ke.wait_for_single_object(timer, 0.010) is False
    assert system.ke.wait_for_single_object(timer, None) is True
    assert system.clock.now() == 30 * MS
    assert timer.signaled is (kind is NOTIFICATION)


def test_a_notification_timer_wakes_all_and_a_synchronization_timer_one() -> None:
    for kind, expected in ((NOTIFICATION, [True, True]), (SYNCHRONIZATION, [True, False])):
        system, timer = System(), Ktimer(kind)
        waits = [timer.begin_wait(), timer.begin_wait()]
        system.ke.set_timer(timer, relative_ms(1))
        system.machine.advance(0.001)
        assert [wait is not None and wait.done for wait in waits] == expected


def test_an_absolute_due_time() -> None:
    system, timer = System(), Ktimer()
    system.machine.advance(1.0)
    system.ke.set_timer(timer, 15_000_000)
    assert system.ke.wait_for_single_object(timer, None) is True
    assert system.clock.now() == 1_500 * MS


def test_a_periodic_synchronization_timer_lets_one_wait_through_each_time() -> None:
    system, timer = System(), Ktimer(SYNCHRONIZATION)
    system.ke.set_timer(timer, relative_ms(10), 20)
    times = []
    for _ in range(3):
        assert system.ke.wait_for_single_object(timer, None)
        times.append(system.clock.now() // MS)
    assert times == [10, 30, 50]
    assert system.ke.cancel_timer(timer) is True
    assert system.ke.cancel_timer(timer) is False
    assert system.ke.wait_for_single_object(timer, 1.0) is False


def test_setting_it_again_takes_the_signal_back_and_cancelling_does_not() -> None:
    system, timer = System(), Ktimer()
    system.ke.set_timer(timer, relative_ms(1))
    system.machine.advance(0.001)
    assert now(timer.signaled)
    assert system.ke.cancel_timer(timer) is False
    assert now(timer.signaled)
    assert system.ke.set_timer(timer, relative_ms(1)) is False
    assert not now(timer.signaled)
    assert system.ke.cancel_timer(timer) is True
    assert not now(timer.signaled)


def test_a_wait_stays_in_line_when_the_timer_is_set_to_another_time() -> None:
    system, timer = System(), Ktimer(SYNCHRONIZATION)
    wait = timer.begin_wait()
    assert wait is not None
    system.ke.set_timer(timer, relative_ms(10))
    assert system.ke.set_timer(timer, relative_ms(50)) is True
    system.machine.advance(0.049)
    assert not now(wait.done)
    system.machine.advance(0.001)
    assert now(wait.done)


def test_a_timer_signals_and_queues_its_dpc() -> None:
    system, timer = System(), Ktimer()
    seen: list[bool] = []
    system.ke.set_timer(timer, relative_ms(5), 0, Kdpc(lambda *_: seen.append(timer.signaled)))
    assert system.ke.wait_for_single_object(timer, 1.0) is True
    assert seen == [True], "the timer is signaled first"


def test_cancelling_a_periodic_timer_is_true_while_it_is_active_and_leaves_its_queued_dpc() -> None:
    system, timer = System(), Ktimer()
    ran: list[int] = []
    dpc = Kdpc(lambda *_: ran.append(system.clock.now() // MS))
    system.ke.set_timer(timer, relative_ms(1), 10, dpc)
    system.clock.advance_to(MS)
    with system.ke.raised_irql(DISPATCH_LEVEL):
        assert system.machine.step()
        assert dpc.queued and ran == []
        assert system.ke.cancel_timer(timer) is True, "it has expired, and is queued again"
        assert dpc.queued and timer.signaled
    system.machine.advance(1.0)
    assert ran == [1]


def test_a_timer_on_real_time() -> None:
    ke = Kernel()
    try:
        timer = Ktimer(SYNCHRONIZATION)
        ke.set_timer(timer, relative_ms(2), 2)
        assert [ke.wait_for_single_object(timer, 10.0) for _ in range(3)] == [True] * 3
        assert ke.cancel_timer(timer) is True
    finally:
        ke.close()
