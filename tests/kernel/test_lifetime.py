"""How a bridge ends: closed, dropped, forked, or with its process. No request is left behind, no port stays taken."""

from __future__ import annotations

import fcntl
import gc
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import hilbridge
from hilbridge import Bridge, BridgeClosed, DriverFault, RequestCancelled
from hilbridge.model.codes import IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import NtStatus
from hilbridge.virtual.line import VirtualLine
from tests.hal.halkit import Pty
from tests.programs import line, program, tell
from tests.support import PATIENCE, Thread, TinyDriver, hold, now, pend, plug, raises, succeed, uart


@pytest.fixture
def pty() -> Iterator[Pty]:
    pty = Pty()
    yield pty
    pty.close()


def is_locked(path: str) -> bool:
    """Whether somebody else holds the port with flock."""
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


# -- closing -------------------------------------------------------------------------------------------------------------


def test_closing_a_bridge_ends_every_pending_request_of_every_handle() -> None:
    with Bridge.manual() as bridge:
        requests = []
        for number in range(3):
            plug(bridge, TinyDriver(f"stuck{number}", {IrpMajor.READ: pend, IrpMajor.WRITE: pend}), f"D{number}")
            for _ in range(2):
                handle = bridge.open(f"D{number}")
                requests += [handle.submit_read(4), handle.submit_write(b"data")]
    assert [r.status.name for r in requests] == ["STATUS_CANCELLED"] * 12
    assert all(r.done for r in requests)


def test_a_thread_that_waits_when_the_bridge_closes_is_told() -> None:
    waiting = threading.Event()

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        waiting.set()
        return pend(device, irp)

    with Bridge() as bridge:
        plug(bridge, TinyDriver("stuck", {IrpMajor.READ: read}))
        handle = bridge.open("DUT")
        reader = Thread(lambda: handle.read(4, timeout=None))
        assert waiting.wait(PATIENCE)
    with pytest.raises((BridgeClosed, RequestCancelled)):
        reader.finish()


def test_what_is_used_after_the_close_says_what_to_do() -> None:
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("d"))
        handle = bridge.open("DUT")
    assert handle.closed
    for use in (lambda: handle.read(1), lambda: handle.write(b"x"), lambda: bridge.open("DUT")):
        with pytest.raises(BridgeClosed):
            use()
    with pytest.raises(BridgeClosed, match="make a new one"):
        bridge.plug("virtual:loop")


def test_closing_twice_does_nothing() -> None:
    bridge = Bridge.manual()
    plug(bridge, TinyDriver("d"))
    handle = bridge.open("DUT")
    handle.close()
    handle.close()
    bridge.close()
    bridge.close()
    handle.close()


def test_a_driver_that_forgets_its_requests_cannot_keep_the_bridge_open() -> None:
    bridge = Bridge.manual()
    forgetful = TinyDriver("forgetful", {IrpMajor.READ: hold})
    plug(bridge, forgetful)
    request = bridge.open("DUT").submit_read(4)
    bridge.close()
    assert request.done and request.status.name == "STATUS_DRIVER_INTERNAL_ERROR"
    (fault,) = bridge.acknowledge_faults()
    assert "did not complete" in str(fault) and "forgetful" in str(fault)


@pytest.mark.parametrize("major", [IrpMajor.CLEANUP, IrpMajor.CLOSE, IrpMajor.PNP])
def test_a_driver_that_raises_on_the_way_out_does_not_keep_the_others_in(major: IrpMajor, pty: Pty) -> None:
    bridge = Bridge()
    broken = TinyDriver("broken")
    plug(bridge, broken, "BROKEN")
    handle = bridge.open("BROKEN")
    broken.device.driver_object.major_function[major] = raises(KeyError("broken"))
    bridge.plug(pty.path, name="GOOD")
    request = bridge.open("GOOD").submit_read(4)
    with pytest.raises(DriverFault, match="broken"):
        bridge.close()
    assert request.done and handle.closed
    assert not is_locked(pty.path)
    assert not [t for t in threading.enumerate() if t.name.startswith("hilbridge")]
    with pytest.raises(BridgeClosed):
        bridge.open("GOOD")


def test_a_cancel_routine_that_raises_does_not_keep_the_bridge_open(pty: Pty) -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        irp.set_cancel_routine(raises(KeyError("broken")))
        return hold(device, irp)

    bridge = Bridge()
    plug(bridge, TinyDriver("broken", {IrpMajor.READ: read}), "BROKEN")
    bridge.plug(pty.path, name="GOOD")
    request = bridge.open("BROKEN").submit_read(4)
    with pytest.raises(DriverFault, match="KeyError"):
        bridge.close()
    assert request.done
    assert not is_locked(pty.path)
    assert not [t for t in threading.enumerate() if t.name.startswith("hilbridge")]


def test_leaving_the_block_raises_a_fault_that_no_call_has_shown() -> None:
    line, driver = VirtualLine(), uart()
    with pytest.raises(DriverFault, match="KeyError"), Bridge.manual() as bridge:
        plug(bridge, driver, line=line)
        driver.device.extension.dpc.routine = raises(KeyError("unseen"))
        line.feed(b"x")
        bridge.machine.run_until_idle()


def test_an_exception_that_is_on_its_way_is_not_hidden_by_a_fault() -> None:
    line, driver = VirtualLine(), uart()
    with pytest.raises(ZeroDivisionError), Bridge.manual() as bridge:
        plug(bridge, driver, line=line)
        driver.device.extension.dpc.routine = raises(KeyError("unseen"))
        line.feed(b"x")
        bridge.machine.run_until_idle()
        raise ZeroDivisionError


# -- dropped -------------------------------------------------------------------------------------------------------------


def test_a_handle_that_is_dropped_is_closed() -> None:
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("d"))
        handle = bridge.open("DUT")
        assert bridge.devices()[0]["opens"] == 1
        del handle
        gc.collect()
        bridge.machine.run_until_idle()
        assert bridge.devices()[0]["opens"] == 0


def test_a_request_under_way_keeps_its_handle_open() -> None:
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("stuck", {IrpMajor.READ: pend}))
        request = bridge.open("DUT").submit_read(4)
        gc.collect()
        bridge.machine.run_until_idle()
        assert bridge.devices()[0]["opens"] == 1 and not now(request.done)
        request.cancel()
        assert request.done
        del request
        gc.collect()
        bridge.machine.run_until_idle()
        assert bridge.devices()[0]["opens"] == 0


def test_the_finalizer_of_a_handle_only_tells() -> None:
    seen: list[str] = []

    def cleanup(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        seen.append("CLEANUP")
        return succeed(device, irp)

    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("d", {IrpMajor.CLEANUP: cleanup}))
        handle = bridge.open("DUT")
        del handle
        gc.collect()
        assert seen == [], "a finalizer runs anywhere, also inside the model"
        bridge.machine.run_until_idle()
        assert seen == ["CLEANUP"]


def test_a_dropped_handle_makes_room_at_the_next_call_even_if_nobody_turns_the_crank() -> None:
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("d", exclusive=True))
        handle = bridge.open("DUT")
        del handle
        gc.collect()
        bridge.open("DUT").close()


def test_a_device_that_was_opened_by_its_moniker_is_given_back_when_its_handle_is_dropped(pty: Pty) -> None:
    handle = hilbridge.open(pty.path)
    assert is_locked(pty.path)
    closers = [t for t in threading.enumerate() if t.name.startswith("hilbridge")]
    del handle
    gc.collect()
    for thread in closers:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in closers)
    for thread in [t for t in threading.enumerate() if t.name == "hilbridge-closer"]:
        thread.join(PATIENCE)
    assert not is_locked(pty.path)


def test_closing_the_handle_of_an_opened_moniker_closes_its_bridge(pty: Pty) -> None:
    with hilbridge.open(pty.path) as handle:
        bridge = handle.bridge
    assert not is_locked(pty.path)
    with pytest.raises(BridgeClosed):
        bridge.plug("virtual:loop")


# -- forked --------------------------------------------------------------------------------------------------------------

FORK = """
bridge = Bridge()
bridge.plug(sys.argv[1], name="DUT")
port = bridge.open("DUT")
down, up = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    os.close(down[1])  # so that it ends with its parent, whatever happens there
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(1, 2)
    refused = []
    for use in (lambda: port.read(1), lambda: port.write(b"x"), lambda: bridge.open("DUT"),
                lambda: bridge.plug("virtual:loop"), lambda: port.submit_read(1), lambda: port.in_waiting):
        try:
            use()
            refused.append("went through")
        except BridgeClosed as error:
            refused.append("refused" if "parent" in str(error) else str(error))
        except Exception as error:
            refused.append(repr(error))
    port.close()
    bridge.close()
    os.write(up[1], " ".join(refused).encode())
    os.read(down[0], 1)
    os._exit(0)
say(os.read(up[0], 1000).decode())
say(port.read(5))
port.write(b"answer")
"""


def test_in_a_forked_child_every_use_is_refused_and_the_parent_goes_on(pty: Pty) -> None:
    with program(FORK + "os.write(down[1], b'.')\nsay(os.waitpid(child, 0)[1])\nbridge.close()", pty.path) as process:
        assert line(process) == " ".join(["refused"] * 6)
        os.write(pty.board, b"hello")
        assert line(process) == "b'hello'"
        assert pty.hear(6) == b"answer"
        assert line(process) == "0"


def test_what_a_forked_child_closes_leaves_the_parents_lock_in_place(pty: Pty) -> None:
    code = FORK + "os.write(down[1], b'.')\nos.waitpid(child, 0)\nsay('alone')\nsys.stdin.readline()\nbridge.close()"
    with program(code, pty.path) as process:
        line(process)
        os.write(pty.board, b"hello")
        line(process)
        assert is_locked(pty.path), "while the child lives"
        assert line(process) == "alone"
        assert is_locked(pty.path), "when it has closed everything and ended"
        tell(process)
    assert not is_locked(pty.path)


def test_a_forked_child_does_not_hold_the_port_when_the_parent_gives_it_back(pty: Pty) -> None:
    code = FORK + "bridge.close()\nsay('closed')\nsys.stdin.readline()\nos.write(down[1], b'.')\nos.waitpid(child, 0)"
    with program(code, pty.path) as process:
        line(process)
        os.write(pty.board, b"hello")
        line(process)
        assert line(process) == "closed"
        assert not is_locked(pty.path)
        tell(process)


def test_a_forked_child_can_open_a_bridge_of_its_own(pty: Pty) -> None:
    code = """
    first = Bridge()
    first.plug("virtual:loop", name="LOOP")
    port = first.open("LOOP")
    child = os.fork()
    if child == 0:
        with Bridge() as mine:
            mine.plug(sys.argv[1], name="DUT")
            with mine.open("DUT") as dut:
                dut.write(b"from the child")
                assert dut.read(2) == b"ok"
        os._exit(0)
    say(os.waitpid(child, 0)[1])
    port.write(b"abc")
    say(port.read(3))
    first.close()
    """
    with program(code, pty.path) as process:
        assert pty.hear(14) == b"from the child"
        os.write(pty.board, b"ok")
        assert line(process) == "0"
        assert line(process) == "b'abc'"


def test_a_fork_while_another_thread_waits_in_the_bridge(pty: Pty) -> None:
    code = """
    with Bridge() as bridge:
        bridge.plug(sys.argv[1], name="DUT")
        with bridge.open("DUT") as port:
            got = []
            request = port.submit_read(5)
            reader = threading.Thread(target=lambda: got.append(request.result(30)))
            reader.start()
            child = os.fork()
            if child == 0:
                try:
                    request.result(1)
                except BridgeClosed:
                    os._exit(0)
                finally:
                    os._exit(1)
            say(os.waitpid(child, 0)[1])
            reader.join()
            say(*got)
    """
    with program(code, pty.path) as process:
        assert line(process) == "0"
        os.write(pty.board, b"hello")
        assert line(process) == "b'hello'"


# -- with the process ----------------------------------------------------------------------------------------------------


def test_a_program_that_ends_without_closing_anything_ends_cleanly(pty: Pty) -> None:
    code = """
    bridge = Bridge()
    bridge.plug(sys.argv[1], name="DUT")
    port = bridge.open("DUT")
    request = port.submit_read(100)
    other = hilbridge.open("virtual:loop")
    say("ends")
    """
    with program(code, pty.path) as process:
        assert line(process) == "ends"
    assert not is_locked(pty.path)


def test_a_program_that_ends_while_a_thread_waits_for_ever_ends_cleanly(pty: Pty) -> None:
    code = """
    bridge = Bridge()
    bridge.plug(sys.argv[1], name="DUT")
    port = bridge.open("DUT")

    def wait():
        try:
            port.read(1, timeout=None)
        except hilbridge.HilbridgeError as error:
            say("told", type(error).__name__)

    threading.Thread(target=wait, daemon=True).start()
    say("ends")
    """
    with program(code, pty.path) as process:
        assert line(process) == "ends"


def test_a_bridge_that_is_dropped_with_its_devices_is_closed_at_exit(pty: Pty) -> None:
    code = """
    def use():
        bridge = Bridge()
        bridge.plug(sys.argv[1], name="DUT")
        bridge.open("DUT").write(b"x")

    use()
    gc.collect()
    say("ends")
    """
    with program(code, pty.path) as process:
        assert line(process) == "ends"
        assert pty.hear(1) == b"x"
