"""Skeleton: a driver for a device on a serial line.

Writes go out on the line, and reads are given what comes in. Change what the bytes mean, and it is yours. The layer that it
stands on does the rest: requests that wait are cancelled when their caller gives up, held while the device is stopped, and
failed when it goes.

    import hilbridge, skeleton
    with hilbridge.Bridge() as bridge:
        bridge.plug("virtual:loop", name="skeleton", driver=skeleton)    # or "/dev/ttyUSB0"
        with bridge.open("skeleton") as handle:
            handle.write(b"hello")
            print(handle.read(5))
"""

from __future__ import annotations

from collections import deque

from hilbridge import ddk


class Skeleton(ddk.Device):
    """One device, from AddDevice until it is removed. Everything that the driver remembers of it is here."""

    def __init__(self, init: ddk.DeviceInit) -> None:
        """AddDevice: make the queues. There is no hardware yet."""
        super().__init__(init)
        self.line: ddk.Line | None = None
        self.interrupt: ddk.Interrupt | None = None
        self.inbox: deque[bytes] = deque()  # from the service routine, which may take no lock: appends are atomic
        self.gone = False
        self.lock = self.ke.spin_lock()  # over the next three
        self.received = bytearray()
        self.writing: ddk.Request | None = None
        self.written = 0
        self.dpc = ddk.Kdpc(self.deferred, None, self.device_object)
        # Reads wait until there is something for them; writes are carried out one after the other.
        self.reads = ddk.ManualQueue(self, ddk.IrpMajor.READ, on_ready=self.serve)
        self.writes = ddk.SequentialQueue(self, write=self.write)

    # -- the hardware comes and goes ---------------------------------------------------------------------------------

    def prepare_hardware(self, resources: ddk.SerialResources | None) -> None:
        """START_DEVICE. What is raised here fails the start, with these words."""
        if resources is None:
            raise ddk.NtStatusError(ddk.STATUS_DEVICE_CONFIGURATION_ERROR, "it needs a line, as virtual:loop or a port")
        resources.line.configure(resources.settings)
        self.line = resources.line
        # The service routine may be called from here on: what it touches is in place.
        self.interrupt = self.io.connect_interrupt(self.device_object, self.isr, None, resources.vector)

    def release_hardware(self) -> None:
        """STOP_DEVICE, or the device has gone. Also called when `prepare_hardware` has failed half-way."""
        if self.interrupt is not None:
            self.io.disconnect_interrupt(self.interrupt)
        self.interrupt = self.line = None

    def d0_entry(self, previous: ddk.DevicePowerState) -> None:
        """The device is on: let it interrupt. After this the queues present what has waited."""
        self.enable_interrupts(ddk.CAUSE_RX)

    def d0_exit(self, target: ddk.DevicePowerState) -> None:
        """The device is about to be switched off, or has gone."""
        self.enable_interrupts(0)

    def enable_interrupts(self, causes: int) -> None:
        """Program the line while the service routine is kept out."""
        line, interrupt = self.line, self.interrupt
        if line is not None and interrupt is not None:
            interrupt.synchronize(lambda: line.enable_interrupts(causes))

    # -- interrupts --------------------------------------------------------------------------------------------------

    def isr(self, _interrupt: ddk.Interrupt, _context: object) -> bool:
        """The interrupt service routine, at DIRQL. "Not mine", or quiet the device and leave the work to the DPC."""
        line = self.line
        causes = line.causes() if line is not None else 0
        if line is None or not causes:
            return False
        if causes & ddk.CAUSE_RX:
            self.inbox.append(line.read(4096))
        if causes & ddk.CAUSE_TX:
            line.enable_interrupts(ddk.CAUSE_RX)  # there is room again: it says so once
        self.gone = self.gone or bool(causes & ddk.CAUSE_GONE)
        self.ke.insert_queue_dpc(self.dpc)
        return True

    def deferred(self, _dpc: ddk.Kdpc, _context: object, _argument1: object, _argument2: object) -> None:
        """The DPC, at DISPATCH_LEVEL."""
        self.serve(self.reads)
        self.send()
        if self.gone:
            self.set_failed(ddk.DeviceGone("skeleton was unplugged"))  # SURPRISE_REMOVAL follows

    # -- reads -------------------------------------------------------------------------------------------------------

    def serve(self, reads: ddk.ManualQueue) -> None:
        """Give what has come to the reads that wait, the oldest first. Never complete a request under a lock of yours."""
        while True:
            with self.lock:
                while self.inbox:
                    self.received += self.inbox.popleft()
                request = reads.retrieve() if self.received else None
                if request is None:
                    return
                data = bytes(self.received[: request.length])
                del self.received[: request.length]
            request.complete(data=data)

    # -- writes ------------------------------------------------------------------------------------------------------

    def write(self, request: ddk.Request) -> None:
        """The handler of the queue. It may complete the request now, or keep it, if it can be cancelled meanwhile."""
        with self.lock:
            self.writing, self.written = request, 0
        if request.on_cancel(self.write_cancelled):
            self.send()

    def send(self) -> None:
        """Send what the line takes. If that is not all, its interrupt says when to go on."""
        error: ddk.DeviceFault | None = None
        with self.lock:
            request, line = self.writing, self.line
            if request is None or line is None:
                return
            data = request.input
            try:
                self.written += line.write(data[self.written :])
            except ddk.DeviceFault as fault:
                error = fault
            written, ended = self.written, error is not None or self.written == len(data)
            if ended:
                self.writing = None
        if error is not None:
            request.fail(error)
        elif ended:
            request.complete(information=written)
        else:
            self.enable_interrupts(ddk.CAUSE_RX | ddk.CAUSE_TX)

    def write_cancelled(self, request: ddk.Request) -> None:
        """Its caller has given up, or the device goes. It says how much has been sent."""
        with self.lock:
            if self.writing is request:
                self.writing = None
            written = self.written
        request.complete(ddk.STATUS_CANCELLED, written)


driver_entry = ddk.driver(Skeleton)
