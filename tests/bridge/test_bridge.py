"""The bridge as a whole: looking, vectors and steering, unplugging and replugging, the end, `hilbridge.open`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

import hilbridge
from hilbridge import Bridge, BridgeClosed, DeviceBusy, DeviceGone, DeviceNotFound, RequestCancelled, UsageFault
from hilbridge.virtual.line import VirtualLine
from tests.hal.halkit import Pty
from tests.support import PATIENCE, Thread, wait

# -- looking -----------------------------------------------------------------------------------------------------------


def test_pending_lists_every_irp_with_its_age_and_holder_oldest_first(bridge: Bridge) -> None:
    line = VirtualLine(room=0)
    with bridge.open(bridge.plug(line)) as port, bridge.open(bridge.plug("virtual:line")) as other:
        port.submit_read(4)
        bridge.machine.advance(2)
        port.submit_write(b"abc")
        other.submit_read(1)
        bridge.machine.advance(1)
        listed = bridge.pending()
        assert [(p.device, p.what, p.age) for p in listed] == [
            ("COM1", "read(4)", 3.0),
            ("COM1", "write of 3 bytes", 1.0),
            ("COM2", "read(1)", 1.0),
        ]
        assert {p.holder for p in listed[:2]} == {"driver serial (\\Device\\Serial0)"}
        assert sorted(p.irp_id for p in listed) == [p.irp_id for p in listed]
        port.cancel_io()
        assert [p.device for p in bridge.pending()] == ["COM2"]


def test_statistics(bridge: Bridge) -> None:
    bridge.plug("virtual:loop", upper_filters=["counter"])
    bridge.plug("virtual:line")
    with bridge.open("COM1") as port, bridge.open("COM2") as other:
        port.write(b"abc")
        other.submit_read(1)
        numbers = bridge.statistics()
    assert (numbers["devices"], numbers["pending"], numbers["timers"], numbers["faults"]) == (2, 1, 0, [])
    assert numbers["drivers"]["COM1/counter"]["WRITE"] == 1


def test_statistics_of_the_same_driver_twice_in_a_stack(bridge: Bridge) -> None:
    bridge.plug("virtual:loop", upper_filters=["counter", "counter"])
    with bridge.open("COM1") as port:
        port.write(b"abc")
    assert [n.get("WRITE") for n in bridge.statistics()["drivers"].values()] == [1, 1]


def test_devices(bridge: Bridge) -> None:
    bridge.plug("virtual:loop", upper_filters=["counter"])
    with bridge.open("COM1"), bridge.open("COM1", access="r"):
        [device] = bridge.devices()
    assert device["name"] == "COM1"
    assert device["moniker"] == "virtual:loop"
    assert device["state"] == "started"
    assert device["stack"] == ["counter (unnamed)", "serial \\Device\\Serial0", "rootbus (unnamed)"]
    assert device["opens"] == 2
    assert device["fault"] == ""


def test_access_must_be_one_of_three(bridge: Bridge) -> None:
    bridge.plug("virtual:loop")
    with pytest.raises(UsageFault, match="'rw'"):
        bridge.open("COM1", access="a")


# -- vectors and steering ----------------------------------------------------------------------------------------------


def test_devices_on_one_vector(bridge: Bridge) -> None:
    lines = [VirtualLine(f"virtual:{n}") for n in range(4)]
    handles = [bridge.open(bridge.plug(line, vector=5)) for line in lines]
    assert {device.extension.interrupt.vector.number for h in handles for device in bridge.stack(h.name)[:1]} == {5}
    for n, line in enumerate(lines):
        line.feed(bytes([n]) * 3)
    assert [handle.read(3) for handle in handles] == [bytes([n]) * 3 for n in range(4)]
    bridge.unplug("COM2")
    lines[3].feed(b"abc")
    assert handles[3].read(3) == b"abc"


@pytest.mark.parametrize("steering", [True, False])
@pytest.mark.parametrize("vector", [None, 7])
def test_ports_with_and_without_steering_and_sharing(steering: bool, vector: int | None) -> None:
    ptys = [Pty() for _ in range(4)]
    with Bridge(steering=steering) as bridge:
        handles = [bridge.open(bridge.plug(pty.path, vector=vector)) for pty in ptys]

        def talk(n: int) -> None:
            for turn in range(100):
                data = bytes([n, turn]) * 4
                os.write(ptys[n].board, data)
                assert handles[n].read(8) == data
                handles[n].write(data)
                assert ptys[n].hear(8) == data

        threads = [Thread(lambda n=n: talk(n)) for n in range(4)]  # type: ignore[misc]
        for thread in threads:
            thread.finish()
        for handle in handles:
            handle.close()
    for pty in ptys:
        pty.close()


@pytest.mark.parametrize("steering", [True, False])
def test_unplug_while_a_thread_waits(pty: Pty, steering: bool) -> None:
    with Bridge(steering=steering) as bridge:
        handle = bridge.open(bridge.plug(pty.path))
        os.write(pty.board, b"last")
        reader = Thread(lambda: handle.read(10, timeout=None))
        while handle.in_waiting < 4 or not bridge.pending():
            assert reader.is_alive()
        bridge.unplug("COM1")
        with pytest.raises(DeviceGone) as gone:
            reader.finish()
        assert gone.value.partial == b"last"
        handle.close()


def test_many_ports() -> None:
    """More than EVENTS_PER_TURN, all with something to say at once."""
    ptys = [Pty() for _ in range(100)]
    with Bridge() as bridge:
        handles = [bridge.open(bridge.plug(pty.path)) for pty in ptys]
        assert [h.name for h in handles] == [f"COM{n}" for n in range(1, 101)]
        requests = [handle.submit_read(4) for handle in handles]
        for n, pty in enumerate(ptys):
            os.write(pty.board, n.to_bytes(4, "big"))
        assert [int.from_bytes(r.result(PATIENCE), "big") for r in requests] == list(range(100))
        for n, handle in enumerate(handles):
            handle.write(n.to_bytes(4, "little"))
        assert [int.from_bytes(pty.hear(4), "little") for pty in ptys] == list(range(100))
        requests = [handle.submit_read(4) for handle in handles]
        for name in [handle.name for handle in handles[::2]]:
            bridge.unplug(name)
        for n, pty in enumerate(ptys):
            if n % 2:
                os.write(pty.board, b"alive"[:4])
        assert [r.result(PATIENCE) for r in requests[1::2]] == [b"aliv"] * 50
        for request in requests[::2]:
            with pytest.raises(DeviceGone):
                request.result(PATIENCE)
        for handle in handles:
            handle.close()
    for pty in ptys:
        pty.close()


# -- plug, unplug, replug ----------------------------------------------------------------------------------------------


def test_unplugged_name_is_free_again(bridge: Bridge) -> None:
    for turn in range(10):
        line = VirtualLine()
        assert bridge.plug(line, name="board") == "board"
        with bridge.open("board") as port:
            line.feed(bytes([turn]))
            assert port.read(1) == bytes([turn])
        bridge.unplug("board")
        assert bridge.devices() == []
        assert bridge.io.namespace.links() == []


def test_replug_of_a_pty(pty: Pty) -> None:
    with Bridge() as bridge:
        for turn in range(10):
            name = bridge.plug(pty.path, name="board")
            with bridge.open(name) as port:
                os.write(pty.board, bytes([turn]) * 3)
                assert port.read(3) == bytes([turn]) * 3
            bridge.unplug(name)


def test_port_is_given_back_although_a_handle_is_open(pty: Pty) -> None:
    """As after a real unplug: whoever holds the old handle does not keep the port from the next."""
    with Bridge() as bridge:
        old = bridge.open(bridge.plug(pty.path, name="before"))
        bridge.unplug("before")
        with bridge.open(bridge.plug(pty.path, name="after")) as new:
            os.write(pty.board, b"abc")
            assert new.read(3) == b"abc"
            with pytest.raises(DeviceGone):
                old.read(1)
        old.close()


def test_name_of_a_device_that_lingers_says_what_to_do(bridge: Bridge) -> None:
    bridge.plug("virtual:loop", name="board")
    handle = bridge.open("board")
    bridge.unplug("board")
    with pytest.raises(UsageFault, match="close"):
        bridge.plug("virtual:loop", name="board")
    handle.close()
    bridge.plug("virtual:loop", name="board")


def test_what_came_before_the_unplug_is_not_the_next_devices(bridge: Bridge) -> None:
    line = VirtualLine()
    bridge.plug(line, name="board")
    with bridge.open("board") as port:
        line.feed(b"old")
        bridge.machine.run_until_idle()
        assert port.in_waiting == 3
    bridge.unplug("board")
    bridge.plug("virtual:loop", name="board")
    with bridge.open("board") as port:
        assert port.in_waiting == 0


def test_unplug_touches_no_neighbour(bridge: Bridge) -> None:
    mine, theirs = VirtualLine(), VirtualLine("virtual:other")
    bridge.plug(mine)
    with bridge.open(bridge.plug(theirs)) as other:
        request = other.submit_read(3)
        bridge.unplug("COM1")
        theirs.feed(b"abc")
        assert request.result() == b"abc"


def test_plugging_and_unplugging_from_several_threads() -> None:
    with Bridge() as bridge:

        def work(n: int) -> None:
            for _ in range(20):
                name = bridge.plug("virtual:loop", name=f"board{n}")
                with bridge.open(name) as port:
                    port.write(b"abc")
                    assert port.read(3) == b"abc"
                bridge.unplug(name)

        threads = [Thread(lambda n=n: work(n)) for n in range(4)]  # type: ignore[misc]
        for thread in threads:
            thread.finish()
        assert bridge.devices() == []


def test_read_that_is_about_to_be_completed_when_the_device_goes_keeps_its_bytes() -> None:
    """The driver has taken the bytes and not yet said so, on one thread, while another takes the device away."""
    from hilbridge.iomgr.manager import IoManager
    from hilbridge.model.irp import Irp

    arrived, go_on = threading.Event(), threading.Event()

    class Slow(IoManager):
        fast_io = False

        def complete_request(self, irp: Irp, _boost: int = 0) -> None:
            if irp.user_request is not None and irp.io_status.information:
                arrived.set()
                wait(go_on)
            super().complete_request(irp, _boost)

    line = VirtualLine()
    with Bridge(io_manager=Slow) as bridge:
        handle = bridge.open(bridge.plug(line))
        line.feed(b"abc")
        reader = Thread(lambda: handle.read(3))
        wait(arrived)
        unplugger = Thread(lambda: bridge.unplug("COM1"))
        while not handle.file.device_object.device_stack.removed:
            assert unplugger.is_alive()
        go_on.set()
        unplugger.finish()
        assert reader.finish() == b"abc"
        handle.close()


# -- the end -----------------------------------------------------------------------------------------------------------


def test_close_ends_everything(pty: Pty) -> None:
    bridge = Bridge()
    handle = bridge.open(bridge.plug(pty.path))
    requests = [handle.submit_read(5) for _ in range(10)]
    reader = Thread(lambda: handle.read(5, timeout=None))
    while len(bridge.pending()) < 11:
        assert reader.is_alive()
    bridge.close()
    assert all(request.done for request in requests)
    assert handle.closed
    with pytest.raises((BridgeClosed, RequestCancelled)):
        reader.finish()
    with Bridge() as another:
        another.plug(pty.path)


def test_closing_twice_does_nothing(bridge: Bridge) -> None:
    bridge.close()
    bridge.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda b: b.plug("virtual:loop"),
        lambda b: b.open("COM1"),
        lambda b: b.unplug("COM1"),
    ],
)
def test_closed_bridge_refuses_every_call(bridge: Bridge, call: Callable[[Bridge], object]) -> None:
    bridge.plug("virtual:loop")
    bridge.close()
    with pytest.raises(BridgeClosed, match="closed"):
        call(bridge)


def test_closed_bridge_can_still_be_looked_at(bridge: Bridge) -> None:
    bridge.plug("virtual:loop")
    bridge.close()
    assert bridge.devices() == []
    assert bridge.pending() == []
    assert bridge.statistics()["devices"] == 0


def test_bridges_know_nothing_of_each_other() -> None:
    with Bridge.manual() as one, Bridge.manual() as other:
        assert one.plug("virtual:loop") == other.plug("virtual:loop") == "COM1"
        with one.open("COM1") as mine, other.open("COM1") as theirs:
            mine.write(b"abc")
            assert theirs.in_waiting == 0
            assert mine.read(3) == b"abc"


def test_hand_cranked_bridge_refuses_a_real_port(bridge: Bridge, pty: Pty) -> None:
    with pytest.raises(UsageFault, match="virtual"):
        bridge.plug(pty.path)
    assert bridge.devices() == []
    with Bridge() as real, real.open(real.plug(pty.path)) as port:
        os.write(pty.board, b"abc")
        assert port.read(3) == b"abc"


def test_machine_is_for_hand_cranked_bridges_only() -> None:
    with Bridge() as bridge, pytest.raises(UsageFault, match="manual"):
        _ = bridge.machine


# -- hilbridge.open ----------------------------------------------------------------------------------------------------


def test_open_plugs_into_a_bridge_of_its_own(pty: Pty) -> None:
    with hilbridge.open(pty.path, baudrate=9600) as port:
        assert port.baudrate == 9600
        os.write(pty.board, b"abc")
        assert port.read(3) == b"abc"
        bridge = port.bridge
    with pytest.raises(BridgeClosed):
        bridge.open("COM1")
    with hilbridge.open(pty.path):
        pass


def test_open_that_fails_leaves_nothing_behind(pty: Pty) -> None:
    threads = threading.active_count()
    wrongs: list[dict[str, Any]] = [{"baudrate": 0}, {"access": "x"}, {"nonsense": 1}]
    for wrong in wrongs:
        with pytest.raises(UsageFault):
            hilbridge.open(pty.path, **wrong)
    with pytest.raises(DeviceNotFound):
        hilbridge.open("/dev/ttyNotThere")
    assert threading.active_count() == threads


def test_second_open_of_the_same_port_is_told_that_it_is_we(pty: Pty) -> None:
    with hilbridge.open(pty.path), pytest.raises(DeviceBusy, match="already open in this process"):
        hilbridge.open(pty.path)


def test_open_for_reading_only(pty: Pty) -> None:
    with hilbridge.open(pty.path, access="r") as port:
        os.write(pty.board, b"abc")
        assert port.read(3) == b"abc"
        with pytest.raises(PermissionError):
            port.write(b"x")
