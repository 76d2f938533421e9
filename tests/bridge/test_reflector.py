"""A driver that fails takes its own stack down and no other, leaves a dump behind, and is started again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hilbridge import Bridge, ConfigError, DeviceNotFound, DriverFault, HilbridgeError
from hilbridge.bridge import dump
from hilbridge.bridge.reflector import FORGIVEN, RESTARTS
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.interrupt import Interrupt
from hilbridge.kernel.limits import Limits
from hilbridge.model.codes import IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.hardware import CAUSE_RX
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DRIVER_PROCESS_TERMINATED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from hilbridge.virtual.line import VirtualLine
from tests.cli.clikit import Cli
from tests.support import PATIENCE, Extension, TinyDriver, complete, hold, pass_down, raises

Device = DeviceObject[Extension]


def failing(name: str = "bad") -> TinyDriver:
    """Writes fail it; reads wait."""
    return TinyDriver(name, {IrpMajor.WRITE: raises(ZeroDivisionError("a mistake")), IrpMajor.READ: hold})


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Bridge]:
    bridge = Bridge.manual(crash_dumps=tmp_path / "crashes")
    yield bridge
    bridge.acknowledge_faults()
    bridge.close()


def fail(bridge: Bridge, name: str = "BAD") -> None:
    with pytest.raises(DriverFault, match="raised ZeroDivisionError: a mistake"):
        bridge.open(name).write(b"x")
    bridge.machine.run_until_idle()


def state(bridge: Bridge, name: str = "BAD") -> str:
    (found,) = (device["state"] for device in bridge.devices() if device["name"] == name)
    return str(found)


# -- the requests, and the other devices -----------------------------------------------------------------------------------


def test_every_request_of_the_stack_ends_and_the_other_device_does_not_notice(bridge: Bridge) -> None:
    good = TinyDriver("good", {IrpMajor.READ: hold})
    bridge.plug("virtual:null", name="BAD", driver=failing())
    bridge.plug("virtual:null", name="GOOD", driver=good)
    waiting = [bridge.open("BAD").submit_read(1) for _ in range(3)]
    unharmed = bridge.open("GOOD").submit_read(1)
    fail(bridge)
    for request in waiting:
        assert request.done
        assert request.status == STATUS_DRIVER_PROCESS_TERMINATED
        with pytest.raises(DriverFault, match="a mistake"):
            request.result()
    assert not unharmed.done
    complete(good.device, good.device.extension.held.pop())
    assert unharmed.result() == b""


def test_old_handles_go_on_failing_and_new_ones_work(bridge: Bridge) -> None:
    driver = failing()
    bridge.plug("virtual:null", name="BAD", driver=driver)
    old = bridge.open("BAD")
    fail(bridge)
    assert state(bridge) == "started"
    assert len(driver.devices) == 2
    for call in (lambda: old.read(1), lambda: old.write(b"x"), old.flush):
        with pytest.raises(DriverFault, match="a mistake"):
            call()
    new = bridge.open("BAD")
    request = new.submit_read(1)
    complete(driver.device, driver.device.extension.held.pop())
    assert request.result() == b""
    old.close()
    new.close()


def test_filters_come_back_with_their_stack_and_the_name_with_its_device(bridge: Bridge) -> None:
    bridge.plug("virtual:null", name="BAD", driver=failing(), upper_filters=["counter"])
    before = bridge.devices()[0]["stack"]
    fail(bridge)
    after = bridge.devices()[0]["stack"]
    assert (
        [entry.split()[0] for entry in after] == [entry.split()[0] for entry in before] == ["counter", "bad", "rootbus"]
    )
    bridge.open("BAD").close()


def test_the_hardware_stays_open_and_what_it_says_meanwhile_is_not_lost(tmp_path: Path) -> None:
    class Breaks(TinyDriver):
        """A filter whose writes fail it."""

        def add_device(self, driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
            status = super().add_device(driver, physical)
            self.device.device_type = self.device.extension.lower.device_type
            return status

    line = VirtualLine()
    filter_driver = Breaks(
        "breaks",
        {
            **{major: pass_down for major in IrpMajor if major is not IrpMajor.PNP},
            IrpMajor.WRITE: raises(ZeroDivisionError("a mistake")),
        },
        named=False,
    )
    bridge = Bridge.manual(crash_dumps=tmp_path)
    bridge.plug(line, name="COM1", upper_filters=[filter_driver])
    handle = bridge.open("COM1")
    line.feed(b"before")
    assert handle.read(6) == b"before"
    with pytest.raises(DriverFault):
        handle.write(b"x")
    line.feed(b"meanwhile")
    bridge.machine.run_until_idle()
    assert bridge.open("COM1", access="r").read(9) == b"meanwhile"
    bridge.acknowledge_faults()
    bridge.close()


# -- how often -------------------------------------------------------------------------------------------------------------


def test_it_is_started_again_five_times(bridge: Bridge) -> None:
    bridge.plug("virtual:null", name="BAD", driver=failing())
    for number in range(1, RESTARTS + 1):
        fail(bridge)
        assert state(bridge) == "started"
        assert bridge.devices()[0]["failures"] == number
    fail(bridge)
    assert state(bridge) == "failed"
    with pytest.raises(DriverFault, match="a mistake"):
        bridge.open("BAD")
    bridge.unplug("BAD")
    bridge.plug("virtual:null", name="AGAIN", driver=failing("fresh"))
    bridge.open("AGAIN").close()


def test_after_thirty_minutes_the_count_begins_anew(bridge: Bridge) -> None:
    bridge.plug("virtual:null", name="BAD", driver=failing())
    bridge.machine.advance(1)
    for _ in range(RESTARTS):
        fail(bridge)
    bridge.machine.advance(FORGIVEN / 1e9 + 1)
    fail(bridge)
    assert state(bridge) == "started"
    assert bridge.devices()[0]["failures"] == 1


def test_a_driver_that_cannot_start_again_stays_down(bridge: Bridge) -> None:
    driver = failing()
    bridge.plug("virtual:null", name="BAD", driver=driver)
    driver.on_start = raises(OSError("no more"))
    fail(bridge)
    assert state(bridge) == "failed"
    assert any("no more" in str(fault) for fault in bridge.faults)
    bridge.unplug("BAD")


def test_a_failure_while_it_is_started_is_the_callers(bridge: Bridge) -> None:
    driver = TinyDriver("bad", on_start=raises(ZeroDivisionError("at once")))
    with pytest.raises(DriverFault, match="at once"):
        bridge.plug("virtual:null", name="BAD", driver=driver)
    bridge.machine.run_until_idle()
    assert bridge.devices() == []


# -- the dump --------------------------------------------------------------------------------------------------------------


def test_the_dump_says_who_where_and_with_which_requests(bridge: Bridge, cli: Cli) -> None:
    bridge.plug("virtual:null", name="BAD", driver=failing())
    bridge.open("BAD").submit_read(7)
    fail(bridge)
    (path,) = bridge.reflector.dumps
    found = json.loads(path.read_text())
    assert found["device"] == "BAD"
    assert found["fault"]["driver"] == "bad"
    assert "tests/support.py" in found["fault"]["place"]
    assert any("ZeroDivisionError: a mistake" in line for line in found["fault"]["traceback"])
    assert [irp["major"] for irp in found["irps"]] == ["IRP_MJ_READ", "IRP_MJ_WRITE"]
    assert found["irps"][0]["what"] == "read(7)"
    assert [stack["name"] for stack in found["stacks"]] == ["BAD"]
    shown = cli("crash", "show", str(path))
    assert shown.code == 0
    for part in ("BAD (virtual:null) failed at", "driver  bad", "read(7)", "bad over rootbus", "ZeroDivisionError"):
        assert part in shown.out
    assert cli("crash", "show", str(path), "--json").document["fault"] == found["fault"]


def test_the_dump_tells_what_came_before(bridge: Bridge, cli: Cli) -> None:
    bridge.plug("virtual:null", name="BAD", driver=failing())
    bridge.open("BAD").submit_read(7)
    bridge.machine.advance(2.5)
    fail(bridge)
    (path,) = bridge.reflector.dumps
    events = json.loads(path.read_text())["events"]
    assert [event["what"].rpartition(": ")[2] for event in events[:2]] == [
        "IRP_MN_START_DEVICE, STATUS_SUCCESS",
        "opened",
    ]
    assert events[0]["age"] == 2.5
    assert events[-1]["what"].startswith("fault: ")
    shown = cli("crash", "show", str(path)).out
    assert "2.500 s" in shown
    assert "opened" in shown


def test_under_the_verifier_it_has_the_histories_of_the_last_requests(tmp_path: Path, cli: Cli) -> None:
    bridge = Bridge.manual(crash_dumps=tmp_path, verify=True)
    bridge.plug("virtual:null", name="BAD", driver=failing())
    for _ in range(50):
        bridge.open("BAD").close()
    fail(bridge)
    (path,) = bridge.reflector.dumps
    recent = json.loads(path.read_text())["recent_irps"]
    assert len(recent) == 20
    assert any("sent to bad" in moment for moment in recent[-1]["history"])
    assert recent[-1]["id"] in cli("crash", "show", str(path)).out
    bridge.acknowledge_faults()
    bridge.close()


def test_what_is_no_dump(tmp_path: Path, cli: Cli) -> None:
    assert cli("crash", "show", str(tmp_path / "nothing.json")).code == DeviceNotFound.exit_code
    for text in ("{", "[]", '{"kind": "other"}', '{"kind": "hilbridge crash", "schema_version": 99}', "\x00"):
        file = tmp_path / "odd.json"
        file.write_text(text)
        ran = cli("crash", "show", str(file))
        assert (ran.code, ran.out) == (ConfigError.exit_code, "")
    assert cli("crash", "show", str(tmp_path)).code == ConfigError.exit_code


def test_a_folder_that_cannot_be_written_keeps_nothing_from_going_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bridge = Bridge.manual(crash_dumps=tmp_path / "file" / "crashes")
    bridge.plug("virtual:null", name="BAD", driver=failing())
    fail(bridge)
    assert state(bridge) == "started"
    assert bridge.reflector.dumps == []
    bridge.acknowledge_faults()
    bridge.close()


def test_the_folder_keeps_the_newest(tmp_path: Path) -> None:
    record = {"time": "2026-01-01T00:00:00.000+00:00", "device": "COM1"}
    paths = [dump.write(tmp_path, record | {"time": f"2026-01-01T00:00:{n:02}.000+00:00"}) for n in range(60)]
    assert sorted(tmp_path.iterdir()) == paths[-dump.KEPT :]


# -- five places, two ways, with another device under load -----------------------------------------------------------------


class Fault:
    """What the bad driver does in the place that is this test's: raise, or not return until the test lets it."""

    def __init__(self, hangs: bool) -> None:
        self.hangs = hangs
        self.release = threading.Event()

    def __call__(self) -> None:
        if not self.hangs:
            raise ZeroDivisionError("a mistake")
        self.release.wait(PATIENCE)


def bad_driver(place: str, fault: Fault) -> TinyDriver:
    """A driver that fails in one place, the first time it gets there."""
    pending = list[None]([None])

    def strike(where: str) -> None:
        if where == place and pending:
            pending.pop()
            fault()

    def on_start(device: Device, resources: Any) -> None:
        device.extension.line = resources.line
        device.extension.dpc = Kdpc(dpc, None, device)
        device.extension.interrupt = device.io.connect_interrupt(device, isr, device, resources.vector)
        resources.line.enable_interrupts(CAUSE_RX)

    def isr(_interrupt: Interrupt, device: Device) -> bool:
        line = device.extension.line
        assert line is not None
        if not line.causes() & CAUSE_RX:
            return False
        line.read(4096)
        strike("ISR")
        device.ke.insert_queue_dpc(device.extension.dpc)
        return True

    def dpc(_dpc: Kdpc, _context: object, _a: object, _b: object) -> None:
        strike("DPC")

    def came_back(_device: Any, irp: Irp, _context: object) -> NtStatus:
        strike("completion")
        if irp.pending_returned:
            irp.mark_pending()
        return STATUS_SUCCESS

    def write(device: Device, irp: Irp) -> NtStatus:
        strike("dispatch")
        own = device.io.build_synchronous_fsd_request(IrpMajor.PNP, device.extension.lower, _event(), minor=0x0A)
        own.set_completion_routine(came_back)
        device.io.call_driver(device.extension.lower, own)
        return complete(device, irp, STATUS_SUCCESS, irp.current_stack_location.parameters.write.length)

    def cancelled(device: Any, irp: Irp) -> None:
        device.io.release_cancel_spin_lock(device)
        strike("cancel")
        complete(device, irp, STATUS_CANCELLED)

    def read(device: Device, irp: Irp) -> NtStatus:
        irp.mark_pending()
        irp.set_cancel_routine(cancelled)
        if irp.cancel and irp.set_cancel_routine(None) is not None:
            complete(device, irp, STATUS_CANCELLED)
        return STATUS_PENDING

    return TinyDriver("bad", {IrpMajor.WRITE: write, IrpMajor.READ: read}, on_start=on_start)


def _event() -> Any:
    from hilbridge.kernel.event import Kevent

    return Kevent()


TRIGGERS: dict[str, Callable[[Any, VirtualLine], None]] = {
    "ISR": lambda handle, line: line.feed(b"x"),
    "DPC": lambda handle, line: line.feed(b"x"),
    "completion": lambda handle, line: handle.write(b"x", timeout=PATIENCE),
    "dispatch": lambda handle, line: handle.write(b"x", timeout=PATIENCE),
    "cancel": lambda handle, line: handle.submit_read(1).cancel(),
}


@pytest.mark.filterwarnings("ignore:the bridge is closed, but not all:RuntimeWarning")
@pytest.mark.keeps_open("a thread that a driver does not give back is left to it until the end of the test")
@pytest.mark.parametrize("hangs", [False, True], ids=["raises", "hangs"])
@pytest.mark.parametrize("place", TRIGGERS)
def test_another_device_under_load_loses_nothing(place: str, hangs: bool, tmp_path: Path) -> None:
    fault, line = Fault(hangs), VirtualLine()
    bridge = Bridge(crash_dumps=tmp_path)
    bridge.ke.limits = Limits(isr=0.2, dpc=0.2, dispatch=0.2, completion=0.2, cancel=0.2)
    bridge.plug(line, name="BAD", driver=bad_driver(place, fault))
    bridge.plug("virtual:loop", name="GOOD")
    stop, went_on, trips, target, wrong = threading.Event(), threading.Event(), [0], list[int](), list[BaseException]()

    def load() -> None:
        try:
            with bridge.open("GOOD") as good:
                while not stop.is_set():
                    message = f"message {trips[0]:08}".encode()
                    good.write(message, timeout=PATIENCE)
                    if good.read(len(message), timeout=PATIENCE) != message:
                        raise AssertionError(f"trip {trips[0]} brought something else back")
                    trips[0] += 1
                    if target and trips[0] >= target[0]:
                        went_on.set()
        except BaseException as error:  # noqa: BLE001 - looked at below
            wrong.append(error)

    def provoke() -> None:
        try:
            TRIGGERS[place](handle, line)
        except HilbridgeError as error:
            told.append(error)

    told = list[HilbridgeError]()
    handle = bridge.open("BAD")
    waiting = handle.submit_read(4)
    loader = threading.Thread(target=load, daemon=True)
    loader.start()
    trigger = threading.Thread(target=provoke, daemon=True)
    trigger.start()
    try:
        assert waiting.wait(PATIENCE), "a request that waits ends with its driver"
        assert waiting.status == STATUS_DRIVER_PROCESS_TERMINATED
        with pytest.raises(DriverFault) as caught:
            waiting.result()
        assert caught.value.driver == "bad"
        assert caught.value.place is not None
        assert "tests/bridge/test_reflector.py" in caught.value.place
        target.append(trips[0] + 20)
        assert bridge.ke.wait_for_single_object(bridge.reflector.settled, PATIENCE)
        assert state(bridge) == "started", "it is started again"
        again = bridge.open("BAD", access="w")
        assert again.write(b"works", timeout=PATIENCE) == 5
        assert went_on.wait(PATIENCE), f"the other device came to a stop: {wrong}"
    finally:
        fault.release.set()
        stop.set()
        loader.join(PATIENCE)
        trigger.join(PATIENCE)
        bridge.acknowledge_faults()
        bridge.close()
    assert not wrong
    assert not loader.is_alive()
