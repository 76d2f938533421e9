"""Whether a bridge is built with the driver verifier, which is imported only then."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hilbridge.iomgr.manager import IoManager
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.observe.verifier.options import Verify

VARIABLE = "HILBRIDGE_VERIFY"


def with_verifier(
    verify: bool | Verify | None, io_manager: type[IoManager], kernel: type[Kernel]
) -> tuple[type[IoManager], type[Kernel]]:
    """The classes of a bridge: as they are, or watched, if the caller, or else the environment, asks for that."""
    if verify is False or (verify is None and VARIABLE not in os.environ):
        return io_manager, kernel
    from hilbridge.observe.verifier.select import verified, wanted

    options = wanted(verify)
    return (io_manager, kernel) if options is None else verified(options, io_manager, kernel)
