"""Whether a bridge is built with the driver verifier, which is imported only then."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hilbridge.iomgr.manager import IoManager
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.observe.verifier.options import Verify

VARIABLE = "HILBRIDGE_VERIFY"
"""Environment: ``1`` verifies every bridge that does not say otherwise; ``all`` also turns fast I/O off."""


def with_verifier(
    verify: bool | Verify | None, io_manager: type[IoManager], kernel: type[Kernel]
) -> tuple[type[IoManager], type[Kernel]]:
    """The classes of a bridge: as they are, or watched, if the caller, or else the environment, asks for that."""
    said = os.environ.get(VARIABLE, "")
    if verify is None:
        verify = said not in ("", "0")
    if verify is False:
        return io_manager, kernel
    from hilbridge.observe.verifier.options import Verify
    from hilbridge.observe.verifier.select import verified

    options = verify if isinstance(verify, Verify) else Verify(fast_io=said != "all")
    return verified(options, io_manager, kernel)
