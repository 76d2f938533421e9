"""How a bridge is built with the verifier: its classes, with or without instruments on top."""

from __future__ import annotations

from hilbridge.iomgr.manager import IoManager
from hilbridge.kernel.kernel import Kernel
from hilbridge.observe.verifier.kernel import VerifiedKernel
from hilbridge.observe.verifier.manager import VerifiedIoManager
from hilbridge.observe.verifier.options import Verify


def verified(
    options: Verify, io_manager: type[IoManager], kernel: type[Kernel]
) -> tuple[type[IoManager], type[Kernel]]:
    """The classes of a bridge with the verifier below whatever classes it was to have."""
    watched: type[Kernel] = type("WatchedKernel", _bases(kernel, Kernel, VerifiedKernel), {"options": options})
    manager: type[IoManager] = type("WatchedIoManager", _bases(io_manager, IoManager, VerifiedIoManager), {})
    return manager, watched


def _bases(given: type, plain: type, verifying: type) -> tuple[type, ...]:
    # Instruments come first: what they tell of is what the verifier has let pass.
    return (verifying,) if given is plain or issubclass(verifying, given) else (given, verifying)
