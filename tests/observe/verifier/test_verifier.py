"""The verifier around its rules: how it is switched on, what it does with a finding, and failures on purpose."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hilbridge import Bridge, BugCheck, DriverFault, HilbridgeError, UsageFault
from hilbridge.iomgr.manager import IoManager
from hilbridge.kernel.kernel import Kernel
from hilbridge.model.codes import IrpMajor
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from hilbridge.observe.observed import observed_by
from hilbridge.observe.trace import Trace
from hilbridge.observe.verifier.options import Verify
from hilbridge.observe.verifier.rule import Severity
from tests.docs.mdkit import DOCS
from tests.observe.verifier.rules_page import draw
from tests.observe.verifier.stage import Device, hold
from tests.support import TinyDriver, complete, pass_down, pend, plug


def marked_and_done(device: Device, irp: Irp) -> NtStatus:
    """Breaks MarkIrpPending, which is not fatal."""
    irp.mark_pending()
    return complete(device, irp)


def twice(device: Device, irp: Irp) -> NtStatus:
    """Breaks DoubleCompletion, which is fatal, and hides it."""
    complete(device, irp)
    try:
        device.io.complete_request(irp)
    except Exception:  # noqa: BLE001 - the mistake that is to be found all the same
        device.extension.notes.append("swallowed")
    return STATUS_SUCCESS


def test_a_bridge_without_it_is_built_of_the_plain_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HILBRIDGE_VERIFY", raising=False)
    with Bridge.manual() as bridge:
        assert type(bridge.io) is IoManager
        assert type(bridge.ke) is Kernel
        assert bridge.findings == []


@pytest.mark.parametrize(
    ("said", "asked", "verified", "fast"),
    [
        ("1", None, True, True),
        ("all", None, True, False),
        ("0", None, False, True),
        ("1", False, False, True),
        ("", True, True, True),
    ],
)
def test_the_environment_decides_where_the_caller_does_not(
    monkeypatch: pytest.MonkeyPatch, said: str, asked: bool | None, verified: bool, fast: bool
) -> None:
    monkeypatch.setenv("HILBRIDGE_VERIFY", said)
    with Bridge.manual(verify=asked) as bridge:
        assert hasattr(bridge.io, "verifier") is verified
        assert bridge.io.fast_io is fast


def test_a_finding_that_is_not_fatal_is_raised_at_the_end_of_the_block() -> None:
    driver = TinyDriver("faulty", {IrpMajor.READ: marked_and_done})
    with pytest.raises(DriverFault, match="MarkIrpPending"), Bridge.manual(verify=True) as bridge:
        bridge.plug("virtual:null", name="DUT", driver=driver)
        handle = bridge.open("DUT")
        assert handle.submit_read(1).result() == b""
        assert handle.submit_read(1).result() == b"", "the driver goes on"
        handle.close()
    (finding,) = bridge.findings
    assert finding.rule.severity is Severity.NON_FATAL
    assert (finding.driver, finding.device) == ("faulty", "\\Device\\faulty0")
    assert "tests/observe/verifier/test_verifier.py" in (finding.place or "")


def test_a_fatal_finding_fails_the_stack_even_if_the_driver_swallows_it() -> None:
    faulty, sound = TinyDriver("faulty", {IrpMajor.READ: twice}), TinyDriver("sound", {IrpMajor.READ: hold})
    with Bridge.manual(verify=True) as bridge:
        bridge.plug("virtual:null", name="BAD", driver=faulty)
        bridge.plug("virtual:null", name="GOOD", driver=sound)
        bad, good = bridge.open("BAD"), bridge.open("GOOD")
        waiting = good.submit_read(1)
        with pytest.raises(BugCheck, match="0x44"):
            bad.read(1)
        assert faulty.notes == ["swallowed"]
        with pytest.raises(DriverFault):
            bad.read(1)
        complete(sound.device, sound.device.extension.held.pop())
        assert waiting.result() == b"", "the other device does not notice"
        (finding,) = bridge.findings
        assert finding.rule.name == "DoubleCompletion"
        bridge.acknowledge_faults()


def test_a_report_names_driver_line_request_history_and_what_to_do() -> None:
    driver = TinyDriver("faulty", {IrpMajor.READ: twice})
    with Bridge.manual(verify=True) as bridge:
        bridge.plug("virtual:null", name="DUT", driver=driver)
        with pytest.raises(BugCheck):
            bridge.open("DUT").read(1)
        bridge.acknowledge_faults()
    report = str(bridge.findings[0])
    for part in ("DoubleCompletion (0x44, fatal)", "driver   faulty", "IRP_MJ_READ", "completed with", "  do       "):
        assert part in report
    document = json.loads(json.dumps(bridge.findings[0].as_dict()))
    assert document["rule"] == "DoubleCompletion"
    assert document["irp"]["history"]


def test_the_same_mistake_on_the_same_line_is_one_finding() -> None:
    driver = TinyDriver("faulty", {IrpMajor.READ: marked_and_done})
    bridge = Bridge.manual(verify=True)
    bridge.plug("virtual:null", name="DUT", driver=driver)
    handle = bridge.open("DUT")
    for _ in range(20):
        handle.submit_read(1)
    bridge.close()
    assert len(bridge.findings) == 1


def test_a_driver_below_is_not_blamed_for_what_the_one_above_makes_of_it() -> None:
    """A completion routine completes the IRP itself, with another status, before the driver below has returned its own."""

    def up(device: Device | None, irp: Irp, _context: Any) -> NtStatus:
        assert device is not None
        complete(device, irp, STATUS_CANCELLED)
        return STATUS_MORE_PROCESSING_REQUIRED

    def down(device: Device, irp: Irp) -> NtStatus:
        irp.mark_pending()
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(up)
        device.io.call_driver(device.extension.lower, irp)
        return STATUS_PENDING

    passes = dict.fromkeys((IrpMajor.CREATE, IrpMajor.CLEANUP, IrpMajor.CLOSE), pass_down)
    above = TinyDriver("above", {**passes, IrpMajor.READ: down}, named=False)
    with Bridge.manual(verify=True) as bridge:
        plug(bridge, TinyDriver("below", {IrpMajor.READ: complete}), upper_filters=[above])
        with bridge.open("DUT") as handle:
            request = handle.submit_read(4)
        assert request.status == STATUS_CANCELLED
        assert not bridge.findings


def test_instruments_stand_on_the_verifier() -> None:
    trace = Trace()
    driver = TinyDriver("faulty", {IrpMajor.READ: marked_and_done})
    bridge = Bridge.manual(verify=True, **observed_by(trace))
    bridge.plug("virtual:null", name="DUT", driver=driver)
    bridge.open("DUT").submit_read(1)
    bridge.close()
    assert [finding.rule.name for finding in bridge.findings] == ["MarkIrpPending"]
    assert trace.events, "the trace has seen the request as well"


# -- failures on purpose ---------------------------------------------------------------------------------------------------


def outcome(seed: int, chances: dict[str, Any]) -> list[str]:
    """What becomes of twenty reads of a driver that allocates an IRP for each, and pends it."""

    def read(device: Device, irp: Irp) -> NtStatus:
        try:
            own = device.io.allocate_irp(1)
        except HilbridgeError as error:
            return complete(device, irp, error.status)
        device.io.free_irp(own)
        return pend(device, irp)

    ends: list[str] = []
    bridge = Bridge.manual(verify=Verify(seed=seed, **chances))
    driver = TinyDriver("tiny", {IrpMajor.READ: read})
    for attempt in range(20):
        try:
            bridge.plug("virtual:null", name="DUT", driver=driver)
        except DriverFault as fault:
            ends.append(f"attempt {attempt}: {fault.status}")
        else:
            break
    handle = bridge.open("DUT")
    for number in range(20):
        request = handle.submit_read(1)
        bridge.machine.run_until_idle()
        queue = driver.device.extension.queue
        with queue.lock:
            irp = queue.remove_next_locked()
        if irp is not None:
            complete(driver.device, irp)
            ends.append(f"{number} {'done' if request.done else 'late'}")
        bridge.machine.run_until_idle()
        assert request.done
        ends.append(f"{number} {request.status}")
    bridge.close()
    assert bridge.findings == []
    assert bridge.faults == []
    return ends


@pytest.mark.parametrize(
    ("chance", "sign"),
    [("low_resources", "STATUS_INSUFFICIENT_RESOURCES"), ("cancel", str(STATUS_CANCELLED)), ("delay", "late")],
)
def test_the_same_seed_forces_the_same_failures(chance: str, sign: str) -> None:
    chances: dict[str, Any] = {chance: 0.5}
    first = outcome(7, chances)
    assert outcome(7, chances) == first
    assert 0 < sum(sign in end for end in first) < 20
    assert outcome(8, chances) != first


def test_forced_failures_need_a_seed_and_a_probability() -> None:
    with pytest.raises(UsageFault, match="seed"):
        Verify(cancel=0.1)
    with pytest.raises(UsageFault, match="between 0 and 1"):
        Verify(seed=1, delay=2)


def test_a_completion_that_was_put_off_can_not_be_done_twice() -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        irp.mark_pending()
        complete(device, irp)
        complete(device, irp)
        return STATUS_PENDING

    bridge = Bridge.manual(verify=Verify(seed=1, delay=1.0))
    bridge.plug("virtual:null", name="DUT", driver=TinyDriver("faulty", {IrpMajor.READ: read}))
    with pytest.raises(BugCheck, match="0x44"):
        bridge.open("DUT").read(1)
    bridge.close()


def test_the_page_of_rules_is_the_table() -> None:
    assert (DOCS / "reference" / "verifier-rules.md").read_text(encoding="utf-8") == draw()
