"""The buffers of requests that drivers build."""

from __future__ import annotations

from typing import Any

from hilbridge.model.codes import IrpMajor
from hilbridge.model.ioctl import METHOD_IN_DIRECT, ioctl_method
from hilbridge.observe.verifier.watch import Verifier


def of_read_or_write(verifier: Verifier, major: int, buffer: Any) -> None:
    """Of build_asynchronous_fsd_request."""
    if buffer is None:
        return
    wrong = _wrong(buffer, writable=major == IrpMajor.READ)
    if wrong:
        verifier.report("InvalidFsdBuffer", details=f"{wrong}, for IRP_MJ_{IrpMajor(major).name}")


def of_control(verifier: Verifier, code: int, data: Any, output_length: int, output: Any) -> None:
    """Of build_device_io_control_request."""
    wrong = _wrong(data, writable=False)
    if not wrong and output is not None:
        wrong = _wrong(output, writable=ioctl_method(code) != METHOD_IN_DIRECT)
        if not wrong and len(memoryview(output)) < output_length:
            wrong = f"the output buffer has less than {output_length} bytes"
    if wrong:
        verifier.report("InvalidControlBuffer", details=f"{wrong}, for control code {code:#010x}")


def _wrong(buffer: Any, *, writable: bool) -> str:
    """What is wrong with it, in words."""
    try:
        view = memoryview(buffer)
    except TypeError:
        return f"{type(buffer).__name__} is no buffer"
    return "the buffer cannot be written to" if writable and view.readonly and view else ""
