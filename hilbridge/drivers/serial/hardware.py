"""The line is given and taken away: START_DEVICE, STOP_DEVICE, removal, and the lower power states.

A stop lends the port to somebody else while its handles stay open, so nothing may fail because of it, and nothing may be
lost. What that means for each kind of request:

* a read is served from the receive log, which stays; if it needs more it waits, and its time-outs run;
* writes, flushes, settings and resets wait in the transmit queue, and so keep their order; a reset that has begun is undone,
  and begins anew;
* a control request that needs the line at once (DTR, RTS, the modem lines) is held in `SerialExtension.hold`;
* all others are answered from memory; opening and closing need no hardware either.

What the line had received is taken into the log before it goes. What it had accepted is sent before it goes: QUERY_STOP waits
for that, and refuses the stop if flow control holds the bytes back. What the application has set since the start, and not the
settings of the start, is what the next line is programmed with.
"""

from __future__ import annotations

from hilbridge.drivers.serial import events
from hilbridge.drivers.serial.extension import TX_POWER, TX_STOP, SerialExtension
from hilbridge.drivers.serial.isr import isr
from hilbridge.drivers.serial.read import complete_all, serve_readers
from hilbridge.drivers.serial.receive import take_from_line, take_last, take_present
from hilbridge.drivers.serial.reset import give_up
from hilbridge.drivers.serial.write import advance
from hilbridge.model.codes import DevicePowerState
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DeviceBusy, DeviceGone, HilbridgeError
from hilbridge.model.hardware import Line, LineSettings, SerialResources
from hilbridge.model.ntddser import SERIAL_DTR_STATE, SERIAL_RTS_STATE
from hilbridge.model.pnp_life import PnpState
from hilbridge.model.status import STATUS_DEVICE_BUSY

STOP = "STOP_DEVICE"
POWER = "SET_POWER"
"""Why control requests are held: see `hilbridge.iomgr.hold`."""
DRAIN_PATIENCE = 10.0
"""Seconds that QUERY_STOP waits for the transmitter. A tty's buffer at 9600 baud needs four."""

Device = DeviceObject[SerialExtension]


# -- the hardware comes ------------------------------------------------------------------------------------------------


def start(device: Device, resources: SerialResources) -> None:
    """START_DEVICE, the first one or one after a stop: program the line and connect the interrupt. Raises what refuses.

    After a stop the line and the vector may be others than before. If it fails nothing has changed: a device that was stopped
    stays so, with everything that waits, until it is started or removed; of the line nothing is kept.
    """
    extension = device.extension
    if extension.gone is not None:
        raise extension.gone.again()  # it was found out while the line was taken away, and the removal is on its way
    line, again = resources.line, extension.life.state is PnpState.STOPPED
    settings = extension.settings if again else resources.settings
    if not again:
        _choose_outputs(extension, settings)
    _program(extension, line, settings)
    # From here on the ISR may be called: everything that it touches is in place. The line interrupts with nothing but its end
    # before `resume` has published the interrupt, so that nobody programs it without keeping the ISR out.
    with extension.lock:
        extension.line = line
        extension.asleep = False
    interrupt = None
    try:
        interrupt = device.io.connect_interrupt(device, isr, extension, resources.vector)
        _link(device, resources.port_name)
    except HilbridgeError:
        if interrupt is not None:
            device.io.disconnect_interrupt(interrupt)
        _let_go_of_line(extension)
        raise
    with extension.lock:
        extension.interrupt = interrupt
        extension.settings = settings
        extension.power_state = DevicePowerState.D0  # START implies it


def _choose_outputs(extension: SerialExtension, settings: LineSettings) -> None:
    """DTR and RTS as they are to be at the first start. Those to be kept are left as opening the line has made them."""
    for policy, bit in ((settings.dtr, SERIAL_DTR_STATE), (settings.rts, SERIAL_RTS_STATE)):
        if policy != "keep":
            extension.modem_known |= bit
            extension.modem_control = extension.modem_control & ~bit | (bit if policy == "assert" else 0)


def _program(extension: SerialExtension, line: Line, settings: LineSettings) -> None:
    """Settings, outputs and break, as they were left."""
    line.configure(settings)
    known, outputs = extension.modem_known, extension.modem_control
    if known and line.has_modem_lines:
        line.set_modem_control(
            dtr=bool(outputs & SERIAL_DTR_STATE) if known & SERIAL_DTR_STATE else None,
            rts=bool(outputs & SERIAL_RTS_STATE) if known & SERIAL_RTS_STATE else None,
        )
    if extension.break_on:
        line.set_break(True)


def _link(device: Device, name: str) -> None:
    extension = device.extension
    if name == extension.port_name:
        return
    device.io.create_symbolic_link(name, device.name or "")
    # Only now: REMOVE deletes the link of this name, which must be ours.
    former, extension.port_name = extension.port_name, name
    if former:
        device.io.delete_symbolic_link(former)


def resume(device: Device, held: int, *reasons: str) -> None:
    """Go on after a stop (`TX_STOP`) or a sleep (`TX_POWER`): receive, serve what waits in order, then send.

    What was held goes before what waits to be sent: DTR and its like have always been out of turn.
    """
    extension = device.extension
    with extension.lock:
        extension.tx_held &= ~held
        extension.absorb()
        extension.watch_receiver()
        extension.set_interrupts()  # in any case: what is wished for has only been noted meanwhile
        done = serve_readers(device)
        if extension.watched:  # what has changed meanwhile, and what is looked at from time to time
            device.ke.insert_queue_dpc(extension.event_dpc)
    complete_all(device, done)
    for reason in reasons:
        extension.hold.release(reason)
    complete_all(device, advance(device))


# -- the hardware goes, to come back -----------------------------------------------------------------------------------


def prepare_to_stop(device: Device) -> None:
    """QUERY_STOP: hold what is to be sent, and wait until what the line has accepted is out.

    Raises `DeviceBusy` if it is not out in time. That is the only reason to refuse: the next owner of the port would send these
    bytes at his settings, or throw them away. All else can be given up and taken up again at any moment.
    """
    extension = device.extension
    with extension.lock:
        extension.tx_held |= TX_STOP
    patience, left = DRAIN_PATIENCE, _unsent(extension)
    while left and patience > 0:
        # No line can announce that its last bit is out: see `hilbridge.drivers.serial.write`.
        seconds = extension.drain_time_ms(left) / 1000
        device.ke.delay_execution_thread(seconds)
        patience -= seconds
        left = _unsent(extension)
    if left:
        raise DeviceBusy(
            f"{extension.port_name} cannot be stopped now: it holds {left} bytes that it could not send within "
            f"{DRAIN_PATIENCE:g} s, perhaps because of flow control; purge them (SERIAL_PURGE_TXCLEAR), or try again",
            status=STATUS_DEVICE_BUSY,
        )


def _unsent(extension: SerialExtension) -> int:
    with extension.line_lock:
        line = extension.line
        if line is None or extension.asleep:
            return 0
        try:
            return line.output_waiting()
        except HilbridgeError:
            return 0  # it went, or does not say: nothing that could be waited for


def stop(device: Device) -> None:
    """STOP_DEVICE: give the line back, quiet, and keep no reference to it. Nothing that waits ends."""
    extension = device.extension
    extension.hold.hold(STOP)
    with extension.lock:
        extension.tx_held |= TX_STOP
    _disconnect(device)
    give_up(device)
    # A setting that is being carried out is waited for, and whoever is at the line with a control request.
    with extension.setting_lock, extension.line_lock:
        line = extension.line if not extension.asleep else None
        if line is not None and extension.break_on:
            _end_break(line)
        with extension.lock:
            if line is not None:
                # The last look: what came until now is ours. What comes from now on is the next owner's.
                take_last(line, extension)
                take_from_line(line, extension, everything=False)  # one that has gone says so behind its last byte
                line.enable_interrupts(0)
            extension.absorb()
            extension.interrupt = extension.line = None
            if extension.gone_seen is not None:
                device.ke.insert_queue_dpc(extension.rx_dpc)
            done = serve_readers(device)
    complete_all(device, done)


def _end_break(line: Line) -> None:
    """The next owner would find a line that can send nothing."""
    try:
        line.set_break(False)
    except HilbridgeError:
        return  # it went


def sleep(device: Device) -> None:
    """A lower power state: leave the line alone, but for the news of its end. At PASSIVE_LEVEL."""
    extension = device.extension
    give_up(device)
    with extension.setting_lock, extension.line_lock, extension.lock:
        take_present(extension)
        extension.absorb()
        line, interrupt = extension.line, extension.interrupt

        def leave_alone() -> None:
            if line is not None and not extension.asleep:
                line.enable_interrupts(0)
            extension.asleep = True

        if interrupt is None:
            leave_alone()
        else:
            interrupt.synchronize(leave_alone)
        done = serve_readers(device)
    complete_all(device, done)


def wake(device: Device) -> None:
    """Back to D0: the line may have forgotten everything. At PASSIVE_LEVEL. It cannot be refused.

    A line that does not take its settings any more is of no use: it would go on with wrong ones. So it counts as gone.
    """
    extension = device.extension
    with extension.setting_lock:
        line = extension.line
        failure: HilbridgeError | None = None
        if line is not None and extension.asleep:
            try:
                _program(extension, line, extension.settings)
            except HilbridgeError as error:
                failure = DeviceGone(f"{extension.port_name} does not work after its sleep: {error.message}")
        with extension.lock:
            extension.asleep = False
            if failure is not None and extension.gone_seen is None:
                extension.gone_seen = failure
                device.ke.insert_queue_dpc(extension.rx_dpc)
    resume(device, TX_POWER, POWER)


# -- the hardware goes for good ----------------------------------------------------------------------------------------


def take_away(device: Device, why: str) -> None:
    """SURPRISE_REMOVAL and REMOVE_DEVICE, in whatever state: no more interrupts, and every request ends."""
    extension = device.extension
    _disconnect(device)
    with extension.lock:
        extension.interrupt = None
        extension.absorb()
        if extension.gone is None:
            extension.gone = extension.gone_seen or DeviceGone(f"{extension.port_name} {why}")
            device.device_stack.removed = extension.gone
        extension.tx_held &= ~(TX_STOP | TX_POWER)
        gone = extension.gone
        done = serve_readers(device) + events.end_all(extension, gone.status)
        device.ke.cancel_timer(extension.waits.timer)
    complete_all(device, done)
    extension.hold.fail(gone.status)
    give_up(device)
    complete_all(device, advance(device))
    _let_go_of_line(extension)


def _disconnect(device: Device) -> None:
    """Afterwards the ISR does not run. The interrupt is still there for who synchronizes with it, until the line has gone."""
    interrupt = device.extension.interrupt
    if interrupt is not None:
        device.io.disconnect_interrupt(interrupt)


def _let_go_of_line(extension: SerialExtension) -> None:
    with extension.setting_lock, extension.line_lock, extension.lock:
        extension.line = None
