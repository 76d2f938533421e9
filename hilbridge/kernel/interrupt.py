"""Interrupt vectors, the chains of service routines on them, and the pins that assert them.

A *pin* is the wire from one device. A *vector* is where pins end; several may share one. When a pin asserts, the vector
calls the service routines that are connected to it, in the order of their connection, at the vector's IRQL:

* level-sensitive: until one says True ("mine, and quieted"); if the line is still asserted, the chain runs again;
* latched: the whole chain, again and again, until a complete pass ends with nobody claiming. (ReactOS looks at the last
  routine's answer only; Windows' documentation does not say. A complete pass loses no edge.)

A vector that goes on interrupting while nobody quiets it is taken out of service and reported: it would keep a processor
busy for ever. Until then it keeps nobody else waiting: after `RUNS_PER_TURN` runs of its chain the others have their turn.

**What is a storm?** ReactOS counts dispatches, 30 000 of them in a window of time. A count of dispatches alone cannot tell a
line that nobody quiets from one whose far end sends faster than we fetch: both assert whenever they are asked. So dispatches
count here only if they were *barren*: the interrupt was claimed, the line has not dropped, and the device has moved nothing
since the last one. That is known from the lines themselves, which note in ``pin.moved`` that they have given or taken a byte.
Traffic, however heavy, moves bytes; `STORM_LIMIT` barren dispatches without a single byte among them are no traffic, however
long they take, so that no window of time is needed. A line of somebody else's making with a descriptor may not say what it
moves: then a storm on it is not told from traffic. It is left alone, and costs no more than its turns.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from enum import IntEnum
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from hilbridge.kernel import culprit
from hilbridge.kernel.culprit import calls_driver
from hilbridge.model.codes import DISPATCH_LEVEL
from hilbridge.model.errors import BugCheck, DriverFault
from hilbridge.model.hardware import CAUSE_GONE

if TYPE_CHECKING:
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.model.device import DeviceObject, DeviceStack

ServiceRoutine = Callable[["Interrupt", Any], bool]
R = TypeVar("R")

STORM_LIMIT = 30_000
"""Barren dispatches in a row: ReactOS' KiISROverflow. Then it is a storm (bug check 0xF2)."""
RUNS_PER_TURN = 64
"""How often the chain runs in one go for a line that stays asserted, before the other lines have their turn."""
SPURIOUS_LIMIT = 1_000
"""Interrupts in a row that nobody claimed."""


class InterruptMode(IntEnum):
    """KINTERRUPT_MODE."""

    LEVEL_SENSITIVE = 0
    LATCHED = 1


class Interrupt:
    """KINTERRUPT: one service routine on one vector, and the lock that is held while it runs."""

    __slots__ = ("_lock", "connected", "context", "device", "isr", "mode", "share", "synchronize_irql", "vector")

    def __init__(
        self,
        vector: Vector,
        device: DeviceObject[Any],
        isr: ServiceRoutine,
        context: Any,
        mode: InterruptMode,
        share: bool,
        *,
        synchronize_irql: int | None = None,
        synchronize_with: Interrupt | None = None,
    ) -> None:
        self.vector = vector
        self.device = device
        self.isr = isr
        self.context = context
        self.mode = mode
        self.share = share
        self.connected = False
        """Asked under the lock: who walks an old chain must not call a service routine that has been disconnected."""
        self.synchronize_irql = vector.irql if synchronize_irql is None else synchronize_irql
        """At which the service routine runs: that of the vector, or higher where the lock is shared with a higher one."""
        self._lock: threading.Lock = threading.Lock() if synchronize_with is None else synchronize_with._lock

    @calls_driver("isr", "a routine synchronized with its ISR", lambda frame: frame["self"].device, begun="mine")
    def synchronize(self, routine: Callable[[], R]) -> R:
        """KeSynchronizeExecution: run `routine` at the interrupt's IRQL while the ISR cannot; returns what it returns.

        Bug check 0x9 above that IRQL, and 0xF in the service routine itself or in such a routine: that would wait for itself.
        """
        ke = self.vector.ke
        processor = ke.current()
        old = processor.irql
        if old > self.synchronize_irql:
            raise ke.bug_check(
                0x9,
                "IRQL_NOT_GREATER_OR_EQUAL",
                old,
                self.synchronize_irql,
                hint="synchronize with an interrupt at or below its IRQL",
            )
        processor.irql = self.synchronize_irql
        try:
            lock = self._lock
            if not lock.acquire(blocking=False):
                self._refuse_to_wait_for_oneself()
                lock.acquire()
            mine = lock
            try:
                return routine()
            finally:
                mine.release()
        finally:
            processor.irql = old
            if old < DISPATCH_LEVEL and processor.dpcs:
                ke.drain_dpcs(processor)

    def break_open(self) -> None:
        """The thread that has the lock has been retired: who waits for it has it next. For the watchdog."""
        try:
            self._lock.release()
        except RuntimeError:  # it has just let go of it
            return

    def _refuse_to_wait_for_oneself(self) -> None:
        """Somebody has the lock. If it is this very thread, further out, it would wait for ever.

        Who has it is written down nowhere, because the ISR of every interrupt would have to write it; the thread's frames know.
        """
        frame = sys._getframe(1).f_back
        while frame is not None:
            if frame.f_code in _HOLDERS:
                other = frame.f_locals["self"]
                if isinstance(other, Interrupt) and other._lock is self._lock:
                    raise self.vector.ke.bug_check(
                        0xF,
                        "SPIN_LOCK_ALREADY_OWNED",
                        self,
                        hint="a service routine has its interrupt to itself already: call the routine directly",
                    )
            frame = frame.f_back

    def __repr__(self) -> str:
        return f"<interrupt of {self.device!r} on {self.vector!r}>"

    def wait_idle(self) -> None:
        """Return when the service routine is not running."""
        with self._lock:
            return

    @calls_driver("isr", "its interrupt service routine", lambda frame: frame["self"].device)
    def serve(self) -> bool:
        """Call the service routine under its lock. What it raises is latched, and it is disconnected."""
        ke = self.vector.ke
        processor = ke.local.processor or ke.current()
        irql = processor.irql
        processor.irql = level = self.synchronize_irql
        try:
            with self._lock:
                claimed = self.isr(self, self.context) if self.connected else False
            if claimed is not True and claimed is not False:
                raise DriverFault(
                    f"the ISR of {self.device!r} returned {claimed!r}: return True (mine) or False (not mine)"
                )
            if processor.irql != level:
                raise ke.bug_check(
                    0xC4,
                    "DRIVER_VERIFIER_DETECTED_VIOLATION",
                    0x111,
                    self.device,
                    hint="the ISR changed IRQL",
                    device=self.device,
                )
        except BaseException as error:  # noqa: BLE001 - latched
            processor.irql = irql
            self.vector.lose(self.device.device_stack)
            ke.latch_fault(self.device, error, "its interrupt service routine")
            return True
        processor.irql = irql
        return claimed


_HOLDERS = {Interrupt.synchronize.__code__, Interrupt.serve.__code__}
"""What runs a driver's code under the interrupt's lock."""


def lock_held_by(frame: FrameType, inner: FrameType | None) -> Interrupt | None:
    """The interrupt whose lock `frame` has, if any. `inner` is what it has called: a frame of the lock's own has none."""
    if frame.f_code not in _HOLDERS or inner is None:
        return None
    interrupt = frame.f_locals["self"]
    return interrupt if isinstance(interrupt, Interrupt) else None


class Pin:
    """The kernel's end of one device's interrupt line: `hilbridge.model.hardware.InterruptPin`."""

    __slots__ = (
        "_ready",
        "barren",
        "closed",
        "enabled",
        "fd",
        "hung",
        "idle_runs",
        "let_go",
        "level",
        "lock",
        "masked",
        "moved",
        "parked",
        "parked_lately",
        "raised",
        "registered",
        "served",
        "shared",
        "steerer",
        "vector",
    )

    def __init__(self, vector: Vector, fd: int, level: Callable[[], bool]) -> None:
        self.vector = vector
        self.fd = fd
        self.level = level
        self.enabled = 0
        self.masked = 0
        """What was enabled when nobody was connected to the vector any more; see `mask`."""
        self.idle_runs = 0
        """Interrupts in a row that nobody claimed."""
        self.barren = 0
        """Interrupts in a row that were claimed, although the line did not drop and its device moved nothing."""
        self.moved: bool | None = None
        """Set by the line when it has moved a byte. None: this line does not say. See the top of the module."""
        self.shared = False
        """The vector has other pins: a thread that waits for its own device may not serve it."""
        self._ready = 0
        self.hung = False
        """The descriptor has hung up: it stays ready whatever is asked of it, so it is watched no more."""
        self.closed = False
        self.registered = False
        """Whether the poller watches it now."""
        self.parked = False
        """Nobody watches it: the thread that served it last is expected back at once. See `Poller.serve_briefly`."""
        self.parked_lately = False
        """It has been parked since the poller last looked."""
        self.steerer: Any = None
        """The processor of the waiting thread that watches it instead of the poller, if any."""
        self.let_go: threading.Event | None = None
        """Made by `forget_pin` when it has to wait for the steerer; set when the steerer has let go."""
        self.lock = threading.Lock()
        self.raised = False
        """Asserted by hand, and not served yet."""
        self.served = 0
        """How often it has been served: who claims it sees whether that was since he looked for bytes."""

    def take(self) -> int:
        """The causes seen since the last call; forgets them."""
        ready = self._ready & (self.enabled | CAUSE_GONE)
        self._ready = 0
        return ready

    def saw(self, causes: int) -> None:
        """The selector saw these."""
        self._ready |= causes

    def enable(self, causes: int) -> None:
        """Choose which causes may interrupt."""
        if causes != self.enabled:
            self.enabled = causes
            self.vector.ke.machine.interest_changed(self)

    def mask(self) -> None:
        """Nobody serves the line: it would interrupt for ever. It is quiet until somebody connects to its vector."""
        if self.enabled:
            self.masked = self.enabled
            self.enable(0)

    def connected(self) -> None:
        """Somebody has connected to the vector: interrupt again, and with what nobody was there to hear."""
        masked, self.masked = self.masked, 0
        if masked and not self.enabled:
            self.enable(masked)
        if self._ready & (self.enabled | CAUSE_GONE) and not self.closed:
            self.vector.ke.machine.raise_pin(self)

    def raise_line(self, causes: int) -> None:
        """Assert by hand, from any thread. The chain runs on the machine's own thread, not here."""
        self._ready |= causes
        if self._ready & (self.enabled | CAUSE_GONE):
            self.vector.ke.machine.raise_pin(self)


class Vector:
    """One interrupt vector and the chain on it."""

    __slots__ = ("bereft", "chain", "dead", "irql", "ke", "number", "pins")

    def __init__(self, ke: Kernel, number: int, irql: int) -> None:
        self.ke = ke
        self.number = number
        self.irql = irql
        self.chain: tuple[Interrupt, ...] = ()
        self.pins: list[Pin] = []
        self.dead = False
        """Out of service, after a storm."""
        self.bereft = False
        """A driver that was connected here has failed: its device may go on interrupting, and nobody claims it."""

    def __repr__(self) -> str:
        return f"<vector {self.number}>"

    def connect(self, interrupt: Interrupt) -> bool:
        """Add to the tail of the chain; False if either side does not share, the modes differ, or after a storm."""
        if self.dead:
            return False
        for other in self.chain:
            if not (other.share and interrupt.share) or other.mode != interrupt.mode:
                return False
        interrupt.connected = True
        self.chain = (*self.chain, interrupt)
        self.set_steering()
        for pin in self.pins:
            pin.connected()
        return True

    def disconnect(self, interrupt: Interrupt) -> None:
        """Take off the chain. The routine is not called any more; it may still be running, see `Interrupt.wait_idle`."""
        # In this order: a service routine that is on the chain, and is not called, would leave its line unclaimed.
        self.chain = tuple(i for i in self.chain if i is not interrupt)
        interrupt.connected = False
        interrupt.device.device_stack.steering = None
        self.set_steering()

    def set_steering(self) -> None:
        """The chain or the pins have changed. A waiting thread may serve its own device's interrupt, never a neighbour's: only
        where one device has the vector, and the vector one pin.
        """
        chain, pins = self.chain, self.pins
        alone = len(chain) == 1 and len(pins) == 1 and not self.dead
        for interrupt in chain:
            interrupt.device.device_stack.steering = pins[0] if alone else None
        for pin in list(pins):
            pin.shared = len(pins) > 1
            if pin.shared and pin.steerer is not None:
                self.ke.machine.interest_changed(pin)  # whoever serves it just now finds that he may not any more

    def lose(self, stack: DeviceStack) -> None:
        """A driver of that stack has failed: no service routine of it is called any more."""
        for interrupt in self.chain:
            if interrupt.device.device_stack is stack:
                self.bereft = True
                self.disconnect(interrupt)

    def dispatch(self, pin: Pin) -> None:
        """The line of `pin` is asserted: run the chain at this vector's IRQL, then this thread's DPCs."""
        if self.dead:
            return
        ke = self.ke
        processor = ke.local.processor or ke.current()
        old = processor.irql
        processor.irql = self.irql
        try:
            chain = self.chain
            if len(chain) == 1 and pin.fd >= 0 and chain[0].mode is InterruptMode.LEVEL_SENSITIVE:
                # The commonest case: one device, whose selector says if there is more.
                if not chain[0].serve():
                    self._unclaimed(pin)
                elif pin.moved:
                    pin.moved = False
                    pin.barren = pin.idle_runs = 0
                else:
                    self._barren(pin)
            else:
                self._run(pin)
        finally:
            processor.irql = old
            if old < DISPATCH_LEVEL and processor.dpcs:
                ke.drain_dpcs(processor)

    def _run(self, pin: Pin) -> None:
        """Run the chain until the line is quiet, or its turn is over."""
        for _ in range(RUNS_PER_TURN):
            claimed = False
            chain = self.chain
            if not chain:
                pin.mask()
                if self.chain:  # connected just now, and perhaps before the mask
                    pin.connected()
                return
            latched = chain[0].mode is InterruptMode.LATCHED
            for interrupt in chain:
                if interrupt.serve():
                    claimed = True
                    if not latched:
                        break
            if claimed:
                if pin.moved:
                    pin.moved = False
                    pin.barren = pin.idle_runs = 0
                elif self._barren(pin):
                    return
                if latched or pin.level():
                    continue
                if pin.fd < 0:
                    pin.barren = 0  # it has dropped
                return
            self._unclaimed(pin)
            if latched or pin.closed or not pin.level():
                return
        # The others first. What is counted is kept in the pin, so that a storm does not get away by taking turns.
        if not (self.dead or pin.closed or pin.hung):
            self.ke.machine.defer_pin(pin)

    def _barren(self, pin: Pin) -> bool:
        """Claimed, and nothing moved. True if that was once too often."""
        pin.idle_runs = 0
        if pin.moved is None and pin.fd >= 0:
            return False  # it may have moved something, and does not say
        pin.barren += 1
        if pin.barren < STORM_LIMIT:
            return False
        self._out_of_service("an interrupt that its service routine claims and does not quiet")
        return True

    def _unclaimed(self, pin: Pin) -> None:
        pin.barren = 0
        pin.idle_runs += 1
        if pin.idle_runs < SPURIOUS_LIMIT:
            return
        if self.bereft:
            # The line of the device whose driver has failed, which has been reported. The others on this vector have done
            # nothing wrong, and go on.
            self.ke.machine.silence_pin(pin)
        else:
            self._out_of_service("interrupts that no service routine claims")

    def _out_of_service(self, why: str) -> None:
        self.dead = True
        for pin in self.pins:
            # Not `forget_pin`, which waits for who steers it: that may be a thread that waits for us.
            self.ke.machine.silence_pin(pin)
        chain = self.chain
        self.set_steering()
        drivers = sorted({interrupt.device.driver_object.name for interrupt in chain})
        first = (chain[0].isr, chain[0].context, chain[0]) if chain else (None, None, None)
        fault = BugCheck(
            0xF2,
            "HARDWARE_INTERRUPT_STORM",
            *first,
            1 if len(chain) == 1 else 2,
            hint=f"{why}; {self!r} is out of service, and with it the devices of {', '.join(drivers)}",
        )
        if chain:
            fault.blame(drivers[0] if len(drivers) == 1 else None, culprit.defined_at(chain[0].isr))
        for interrupt in chain:
            self.ke.latch_fault(interrupt.device, fault, "its interrupt")
