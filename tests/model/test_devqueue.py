"""KDEVICE_QUEUE. The packets are real IRPs; the queue looks at nothing in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilbridge.model.devqueue import DeviceQueue
from hilbridge.model.irp import Irp
from tests.support import bug_check, now


def packets(count: int) -> list[Irp]:
    return [Irp(number, 1) for number in range(count)]


def test_an_insert_into_an_idle_queue_makes_it_busy_and_queues_nothing() -> None:
    queue = DeviceQueue[Irp]()
    (packet,) = packets(1)
    assert not now(queue.busy)
    assert queue.insert(packet) is False
    assert now(queue.busy) and len(queue) == 0
    assert queue.remove() is None
    assert not queue.busy


def test_first_in_first_out() -> None:
    queue = DeviceQueue[Irp]()
    first, *rest = packets(5)
    queue.insert(first)
    assert [queue.insert(packet) for packet in rest] == [True] * 4
    assert [queue.remove() for _ in rest] == rest
    assert queue.busy, "the queue is busy until a removal finds it empty"
    assert queue.remove() is None
    assert not queue.busy


def test_removing_from_an_idle_queue_is_bug_check_2() -> None:
    queue = DeviceQueue[Irp]()
    with bug_check(0x2):
        queue.remove()
    with bug_check(0x2):
        queue.remove_by_key(1)
    queue.insert(packets(1)[0])
    queue.remove()
    with bug_check(0x2):
        queue.remove()


def test_keys_sort_ascending_and_equal_keys_keep_their_order() -> None:
    queue = DeviceQueue[Irp]()
    current, a, b, c, d = packets(5)
    queue.insert(current, 99)
    for packet, key in ((a, 30), (b, 10), (c, 20), (d, 10)):
        assert queue.insert(packet, key) is True
    assert [queue.remove() for _ in range(4)] == [b, d, c, a]


def test_an_entry_without_a_key_goes_to_the_tail_of_whatever_is_there() -> None:
    queue = DeviceQueue[Irp]()
    current, a, b, c = packets(4)
    queue.insert(current)
    queue.insert(a, 50)
    queue.insert(b)
    queue.insert(c, 40)
    assert [queue.remove() for _ in range(3)] == [c, a, b]


def test_removal_by_key_takes_the_first_at_or_above_it_and_wraps_to_the_head() -> None:
    queue = DeviceQueue[Irp]()
    current, a, b, c = packets(4)
    queue.insert(current)
    for packet, key in ((a, 10), (b, 20), (c, 30)):
        queue.insert(packet, key)
    assert queue.remove_by_key(15) is b
    assert queue.remove_by_key(30) is c
    assert queue.remove_by_key(30) is a
    assert queue.remove_by_key(0) is None
    assert not queue.busy


def test_an_entry_can_be_taken_out_of_the_middle_once() -> None:
    queue = DeviceQueue[Irp]()
    current, a, b, c = packets(4)
    for packet in (current, a, b, c):
        queue.insert(packet)
    assert queue.remove_entry(b) is True
    assert queue.remove_entry(b) is False
    assert queue.remove_entry(current) is False, "the packet in progress is not queued"
    assert [queue.remove(), queue.remove()] == [a, c]


@given(st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=20))
def test_every_packet_comes_out_once_and_keys_never_come_out_falling(keys: list[int | None]) -> None:
    queue = DeviceQueue[Irp]()
    current, *rest = packets(len(keys) + 1)
    queue.insert(current)
    order = []
    for packet, key in zip(rest, keys, strict=True):
        assert queue.insert(packet, key)
    while (packet_out := queue.remove()) is not None:
        order.append(packet_out)
    assert sorted(packet.id for packet in order) == [packet.id for packet in rest]
    keyed = [keys[packet.id - 1] for packet in order if keys[packet.id - 1] is not None]
    assert keyed == sorted(keyed, key=lambda key: key or 0)


@pytest.mark.parametrize("key", [None, 7])
def test_the_key_of_a_packet_that_is_started_at_once_does_not_matter(key: int | None) -> None:
    queue = DeviceQueue[Irp]()
    packet, other = packets(2)
    assert queue.insert(packet, key) is False
    queue.insert(other, 0)
    assert queue.remove() is other
