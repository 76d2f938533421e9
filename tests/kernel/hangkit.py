"""What the tests of hung drivers share: a driver that hangs where it is told to, and a neighbour that must not notice."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hilbridge import Bridge, BugCheck, Handle
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.frames import current_frames
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.processor import ProcessorRetired
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.kernel.watchdog import Mark, calls_of
from hilbridge.model.codes import PASSIVE_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_PENDING, STATUS_SUCCESS, NtStatus
from hilbridge.virtual.line import VirtualLine
from tests.hal.halkit import Pty
from tests.support import (
    PATIENCE,
    Extension,
    Thread,
    TinyDriver,
    answer,
    complete,
    do,
    hold,
    plug,
    uart,
    wait,
)

HERE = f"{Path(__file__).parent.name}/{Path(__file__).name}"


class Hang:
    """A routine of any kind that does not return: in a loop of Python's, or in a call that blocks in C."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.entered = threading.Event()
        self.leave = threading.Event()
        self.thread = ""
        self.after: Callable[[], object] | None = None
        """If set, it swallows what is thrown at it, does this, and returns as if nothing had been."""
        self.ended: list[BaseException | None] = []
        """How it came to an end: by which exception, or None."""
        self.gone = threading.Event()

    def __call__(self, *_: Any) -> Any:
        self.thread = threading.current_thread().name
        self.entered.set()
        try:
            if self.how == "loop":
                while not self.leave.is_set():
                    pass
            else:
                self.leave.wait()
        except ProcessorRetired as error:
            self.ended.append(error)
            if self.after is None:
                raise
            self.after()
            return True
        else:
            self.ended.append(None)
            return True
        finally:
            self.gone.set()


class Neighbour:
    """A device under load: what its line says is read by a thread of its own, and nothing of it may be missing."""

    def __init__(self, bridge: Bridge, pty: Pty | None = None) -> None:
        self.line = VirtualLine()
        self.pty = pty
        if pty is None:
            plug(bridge, uart("good"), "GOOD", line=self.line)
        else:
            bridge.plug(pty.path, name="GOOD")
        self.handle: Handle = bridge.open("GOOD")
        self.read = 0
        self._enough = False
        self._moved = threading.Condition()
        self._thread = Thread(self._run)

    def _say(self, data: bytes) -> None:
        if self.pty is None:
            self.line.feed(data)
        else:
            os.write(self.pty.board, data)

    def _run(self) -> None:
        number = 0
        while not self._enough:
            self._say(b"%06d" % number)
            assert self.handle.read(6, timeout=PATIENCE) == b"%06d" % number
            number += 1
            with self._moved:
                self.read = number
                self._moved.notify_all()

    def goes_on(self, by: int = 20) -> None:
        """It has read so many messages more than now, or the test fails."""
        with self._moved:
            goal = self.read + by
            assert self._moved.wait_for(lambda: self.read >= goal, PATIENCE), "the neighbour stands still"

    def stop(self) -> None:
        self._enough = True
        self._thread.finish()
        self.handle.close()


class Scene:
    """A bridge whose watchdog is led by hand, a driver "bad" that hangs, and a neighbour."""

    def __init__(self, how: str, place: str, *, steering: bool = True, pty: Pty | None = None) -> None:
        self.bridge = Bridge(steering=steering, restarts=0)
        self.ke = self.bridge.ke
        self.watchdog = self.ke.watchdog
        self.watchdog.stop()  # its thread: from here on a test looks itself
        self.hang = Hang(how)
        self.neighbour = Neighbour(self.bridge, pty)
        self.bad = TinyDriver("bad", named=True)
        self.line = VirtualLine()
        self.begin: Callable[[], object] = getattr(self, f"_{place}")()

    # Each of these makes the driver hang in one place; what it returns starts that, in the thread that calls it.

    def _plug(self, majors: dict[IrpMajor, Any], **options: Any) -> Handle:
        self.bad.dispatch.update({IrpMajor.WRITE: hold, **majors})
        plug(self.bridge, self.bad, "BAD", **options)
        return self.bridge.open("BAD")

    def _isr(self) -> Callable[[], object]:
        self.bad = uart("bad")
        handle = self._plug({}, line=self.line)
        assert self.bad.device.extension.interrupt is not None
        self.bad.device.extension.interrupt.isr = self.hang

        def begin() -> object:
            request = handle.submit_read(1)
            self.line.feed(b"x")
            return request.result(PATIENCE)

        return begin

    def _dpc_of_a_timer(self) -> Callable[[], object]:
        handle = self._plug({IrpMajor.READ: hold})

        def begin() -> object:
            request = handle.submit_read(1)
            self.ke.set_timer(Ktimer(), relative_ms(1), 0, Kdpc(self.hang, None, self.bad.device))
            return request.result(PATIENCE)

        return begin

    def _dpc_of_a_dispatch_routine(self) -> Callable[[], object]:
        def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
            status = hold(device, irp)
            device.ke.insert_queue_dpc(Kdpc(self.hang, None, device))
            return status

        handle = self._plug({IrpMajor.READ: read})
        return lambda: handle.read(1)

    def _completion_routine(self) -> Callable[[], object]:
        def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
            irp.copy_current_stack_location_to_next()
            irp.set_completion_routine(self._hangs_and_says_a_status)
            return device.io.call_driver(device.extension.lower, irp)

        lower = TinyDriver("lower", {IrpMajor.READ: answer(b"x")}, named=False)
        handle = self._plug({IrpMajor.READ: read}, lower_filters=[lower])
        return lambda: handle.read(1)

    def _completion_routine_in_a_dpc(self) -> Callable[[], object]:
        def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
            irp.mark_pending()
            irp.copy_current_stack_location_to_next()
            irp.set_completion_routine(self._hangs_and_says_a_status)
            device.io.call_driver(device.extension.lower, irp)
            return STATUS_PENDING

        def later(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
            status = hold(device, irp)
            dpc = Kdpc(lambda *_: do(lambda: complete(device, irp)), None, device)
            device.ke.set_timer(Ktimer(), relative_ms(1), 0, dpc)
            return status

        lower = TinyDriver("lower", {IrpMajor.READ: later}, named=False)
        handle = self._plug({IrpMajor.READ: read}, lower_filters=[lower])
        return lambda: handle.read(1, timeout=PATIENCE)

    def _hangs_and_says_a_status(self, *arguments: Any) -> NtStatus:
        self.hang(*arguments)
        return STATUS_SUCCESS

    def _dispatch_routine(self) -> Callable[[], object]:
        handle = self._plug({IrpMajor.READ: self.hang})
        return lambda: handle.read(1)

    def _cancel_routine(self) -> Callable[[], object]:
        def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
            irp.set_cancel_routine(self.hang)
            return hold(device, irp)

        handle = self._plug({IrpMajor.READ: read})

        def begin() -> object:
            request = handle.submit_read(1)
            request.cancel()
            return request.result(PATIENCE)

        return begin

    def _start_io(self) -> Callable[[], object]:
        def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
            irp.mark_pending()
            device.io.start_packet(device, irp)
            return STATUS_PENDING

        self.bad.start_io = self.hang
        handle = self._plug({IrpMajor.READ: read})
        return lambda: handle.read(1)

    def _work_item(self) -> Callable[[], object]:
        handle = self._plug({IrpMajor.READ: hold})

        class Item:
            device = self.bad.device
            hang = self.hang

            def __call__(self) -> None:
                self.hang()

        def begin() -> object:
            request = handle.submit_read(1)
            self.ke.queue_work_item(Item())
            return request.result(PATIENCE)

        return begin

    # What a test does with it.

    def __enter__(self) -> Scene:
        return self

    def hangs(self) -> Thread:
        """Begin, and return the thread that has when the driver is inside."""
        self.other = self.bridge.open("BAD").submit_write(b"of another handle")
        self.neighbour.goes_on()
        victim = Thread(self.begin)
        wait(self.hang.entered)
        return victim

    def look(self) -> None:
        """The watchdog finds out."""
        look(self.ke, 0.0)
        assert self.ke.faults == []
        look(self.ke, self.ke.limits.shortest * 0.9)
        assert self.ke.faults == [], "not before its time"
        for _ in range(20):
            look(self.ke, 1.0)
            if self.ke.faults:
                return

    def check(self, code: int) -> BugCheck:
        """What holds when a hung driver has been found."""
        (fault,) = self.ke.faults
        assert isinstance(fault, BugCheck) and fault.code == code, fault
        assert fault.driver == "bad" and HERE in str(fault.place), fault
        assert self.bad.device.device_stack.fault is fault
        assert self.other.done and self.other.status.is_error, "the requests of its other handles have ended"
        return fault

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.hang.leave.set()
        try:
            if kind is None:
                wait(self.hang.gone)
                assert self.ke.irql == PASSIVE_LEVEL
                self.neighbour.goes_on()
                self.neighbour.stop()
                assert len(self.bridge.acknowledge_faults()) == 1, (
                    "what the thread did when it came back counts for nothing"
                )
        finally:
            self.bridge.close()


HANGING = {Hang.__call__.__code__}
"""The code of routines that are meant to hang."""
_seen: set[Mark] = set()


def calls_under_way() -> set[Mark]:
    """The calls of drivers that are under way in any thread, but for those that are meant to hang."""
    found: set[Mark] = set()
    for top in current_frames().values():
        if not any(frame.f_code in HANGING for frame, _ in traceback.walk_stack(top)):
            found.update(call.mark for call in calls_of(top)[0])
    return found


def look(ke: Kernel, seconds: float) -> None:
    """The watchdog looks, as if so many seconds had passed since the last time.

    They have not, and who only works must not be found in the very call in which he was seen before: he has time to go on.
    """
    for _ in range(2000):
        if not calls_under_way() & _seen:
            break
        threading.Event().wait(0.005)
    ke.watchdog.look(seconds)
    _seen.clear()
    _seen.update(calls_under_way())


def is_retired(error: BaseException | None) -> bool:
    return isinstance(error, ProcessorRetired)
