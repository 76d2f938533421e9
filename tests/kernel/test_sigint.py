"""Ctrl-C: deferred inside the model, delivered in waits, and no byte is lost by it.

Each test is a process of its own: a handler that is not in place would end the test run.
"""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Iterator

import pytest

from hilbridge import Bridge
from hilbridge.kernel import sigint
from tests.hal.halkit import Pty
from tests.programs import line, program
from tests.support import Thread


@pytest.fixture
def pty() -> Iterator[Pty]:
    pty = Pty()
    yield pty
    pty.close()


@pytest.mark.parametrize("timeout", ["None", "30"])
def test_ctrl_c_ends_a_blocked_read_and_no_byte_is_lost(pty: Pty, timeout: str) -> None:
    code = f"""
    def read(device, irp):
        say("reading")
        return pass_down(device, irp)

    with Bridge() as bridge:
        bridge.plug(sys.argv[1], name="DUT", upper_filters=[filtered("loud", read)])
        with bridge.open("DUT") as port:
            try:
                port.read(10, timeout={timeout})
            except KeyboardInterrupt:
                say("interrupted", port.in_waiting, bridge.pending())
            say(port.read(10))
    """
    with program(code, pty.path) as process:
        os.write(pty.board, b"abc")
        assert line(process) == "reading"
        process.send_signal(signal.SIGINT)
        assert line(process) in ("interrupted 3 []", "interrupted 0 []"), "0: they are still in the tty"
        assert line(process) == "reading"
        os.write(pty.board, b"defghij")
        assert line(process) == "b'abcdefghij'"


def test_ctrl_c_ends_a_wait_that_sleeps_without_steering(pty: Pty) -> None:
    code = """
    def read(device, irp):
        say("reading")
        return pass_down(device, irp)

    with Bridge(steering=False) as bridge:
        bridge.plug(sys.argv[1], name="DUT", upper_filters=[filtered("loud", read)])
        with bridge.open("DUT") as port:
            try:
                port.read(10, timeout=None)
            except KeyboardInterrupt:
                say("interrupted", bridge.pending())
            say(port.read(3))
    """
    with program(code, pty.path) as process:
        assert line(process) == "reading"
        process.send_signal(signal.SIGINT)
        assert line(process) == "interrupted []"
        assert line(process) == "reading"
        os.write(pty.board, b"abc")
        assert line(process) == "b'abc'"


def test_ctrl_c_ends_a_wait_for_a_request_and_the_request_goes_on(pty: Pty) -> None:
    code = """
    with Bridge() as bridge:
        bridge.plug(sys.argv[1], name="DUT")
        with bridge.open("DUT") as port:
            request = port.submit_read(3)
            try:
                say("waiting")
                request.wait(None)
            except KeyboardInterrupt:
                say("interrupted", request.done)
            say(request.result())
    """
    with program(code, pty.path) as process:
        assert line(process) == "waiting"
        process.send_signal(signal.SIGINT)
        assert line(process) == "interrupted False"
        os.write(pty.board, b"abc")
        assert line(process) == "b'abc'"


def test_a_ctrl_c_in_a_dispatch_routine_waits_until_the_routine_is_through(pty: Pty) -> None:
    code = """
    story = []

    def read(device, irp):
        story.append("begin")
        strike()
        story.append("end")
        return pass_down(device, irp)

    with Bridge() as bridge:
        bridge.plug(sys.argv[1], name="DUT", upper_filters=[filtered("torn", read)])
        with bridge.open("DUT") as port:
            try:
                port.read(3, timeout=None)
            except KeyboardInterrupt:
                story.append("interrupted")
            say(*story, bridge.faults, bridge.pending())
    """
    with program(code, pty.path) as process:
        assert line(process) == "begin end interrupted [] []"


STRUCK_READ = """
def completed(device, irp, context):
    if irp.pending_returned:
        irp.mark_pending()
    if irp.io_status.status.is_success:
        how()
    return STATUS_SUCCESS

def read(device, irp):
    irp.copy_current_stack_location_to_next()
    irp.set_completion_routine(completed)
    return device.io.call_driver(device.extension.lower, irp)

struck = filtered("struck", read)

def spare():
    struck.device.driver_object.major_function[IrpMajor.READ] = pass_down
"""


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_ctrl_c_while_a_read_completes_gives_its_bytes_back(when: str) -> None:
    code = f"""
    from hilbridge.virtual.line import VirtualLine

    how, line = strike, VirtualLine()
    with Bridge.manual() as bridge:
        bridge.plug(line, name="DUT", upper_filters=[struck])
        with bridge.open("DUT") as port:
            if {when!r} == "at once":
                line.feed(b"abcdef")
                bridge.machine.run_until_idle()
            else:
                bridge.ke.set_timer(Ktimer(), relative_ms(1), 0, Kdpc(lambda *_: line.feed(b"abcdef")))
            try:
                say("returned", port.read(3))
            except KeyboardInterrupt:
                say("interrupted")
            spare()
            say(port.read(6))
    """
    with program(STRUCK_READ + textwrap.dedent(code)) as process:
        assert line(process) == "interrupted"
        assert line(process) == "b'abcdef'"


def test_a_ctrl_c_that_strikes_the_wait_while_another_thread_completes_the_read_gives_its_bytes_back(pty: Pty) -> None:
    code = """
    def how():
        # The main thread sleeps, the poller completes its read. It is woken by the signal, before it is told.
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    with Bridge(steering=False) as bridge:
        bridge.plug(sys.argv[1], name="DUT", upper_filters=[struck])
        with bridge.open("DUT") as port:
            say("ready")
            try:
                say("returned", port.read(3, timeout=30))
            except KeyboardInterrupt:
                say("interrupted")
            spare()
            say(port.read(6))
    """
    with program(STRUCK_READ + textwrap.dedent(code), pty.path) as process:
        assert line(process) == "ready"
        os.write(pty.board, b"abcdef")
        assert line(process) == "interrupted"
        assert line(process) == "b'abcdef'"


def test_a_ctrl_c_in_a_write_is_raised_when_the_write_is_out(pty: Pty) -> None:
    code = """
    def write(device, irp):
        strike()
        return pass_down(device, irp)

    with Bridge() as bridge:
        bridge.plug(sys.argv[1], name="DUT", upper_filters=[filtered("struck", write, IrpMajor.WRITE)])
        with bridge.open("DUT") as port:
            try:
                port.write(b"all of it")
            except KeyboardInterrupt:
                say("interrupted")
    """
    with program(code, pty.path) as process:
        assert line(process) == "interrupted"
        assert pty.hear(9) == b"all of it"


@pytest.mark.parametrize("major", ["CREATE", "CLEANUP", "CLOSE"])
def test_a_ctrl_c_while_a_handle_opens_or_closes_is_raised_and_leaves_no_half_open_handle(major: str) -> None:
    code = f"""
    def struck(device, irp):
        strike()
        return pass_down(device, irp)

    with Bridge.manual() as bridge:
        bridge.plug("virtual:loop", name="DUT", upper_filters=[filtered("struck", struck, IrpMajor.{major})])
        try:
            port = bridge.open("DUT")
            port.close()
            say("not interrupted")
        except KeyboardInterrupt:
            say("interrupted")
        port = None
        bridge.machine.run_until_idle()
        say(bridge.devices()[0]["opens"], bridge.faults)
    """
    with program(code) as process:
        assert line(process) == "interrupted"
        assert line(process) == "0 []"


def test_a_crank_that_a_periodic_timer_keeps_turning_can_be_stopped() -> None:
    code = """
    with Bridge.manual() as bridge:
        ticks = []

        def tick(*_):
            ticks.append(1)
            if len(ticks) == 100:
                strike()

        bridge.ke.set_timer(Ktimer(), relative_ms(1), 1, Kdpc(tick))
        plug(bridge, TinyDriver("stuck", {IrpMajor.READ: pend}))
        with bridge.open("DUT") as port:
            try:
                port.read(1, timeout=None)
            except KeyboardInterrupt:
                say("interrupted", len(ticks), bridge.pending())
    """
    with program(code) as process:
        assert line(process) == "interrupted 100 []"


def test_outside_of_the_model_ctrl_c_is_what_it_always_was() -> None:
    code = """
    with Bridge():
        try:
            strike()
            say("not interrupted")
        except KeyboardInterrupt:
            say("interrupted")
    say(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    """
    with program(code) as process:
        assert line(process) == "interrupted"
        assert line(process) == "True"


def test_a_handler_that_the_application_has_installed_is_left_alone() -> None:
    code = """
    mine = lambda *_: say("mine")
    signal.signal(signal.SIGINT, mine)
    with Bridge() as bridge:
        strike()
        say(signal.getsignal(signal.SIGINT) is mine)
    say(signal.getsignal(signal.SIGINT) is mine)
    """
    with program(code) as process:
        assert [line(process) for _ in range(3)] == ["mine", "True", "True"]


# -- whose handler is installed ------------------------------------------------------------------------------------------


def ours() -> bool:
    return signal.getsignal(signal.SIGINT) is sigint._on_sigint


def test_the_handler_is_installed_while_a_bridge_is_open_and_the_last_one_takes_it_out() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with Bridge.manual():
        assert ours()
        with Bridge.manual():
            assert ours()
        assert ours()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_bridge_that_another_thread_closes_does_not_keep_the_handler_for_ever() -> None:
    first = Bridge.manual()
    Thread(first.close).finish()
    with Bridge.manual():
        assert ours()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_bridge_that_another_thread_opens_and_this_one_closes_takes_nothing_away() -> None:
    other = Thread(Bridge.manual).finish()
    with Bridge.manual():
        other.close()
        assert ours(), "there is still a bridge of ours"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
