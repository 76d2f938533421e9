"""The default dispatch: what a device of the layer does with Plug and Play, power and the rest, without a line of its own."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import Bridge, DeviceGone, DriverFault, UsageFault, ddk
from hilbridge.model.codes import PnpMinor
from tests.ddk.ddkkit import Bare, Setup, bare, plug, plugged


def with_writes(self: Bare) -> None:
    ddk.SequentialQueue(self, write=lambda request: self.kept.append(request) or request.complete(information=request.length))


def test_smoke() -> None:
    with plugged(bare(with_writes)) as it:
        with it.open() as handle:
            assert handle.write(b"abc") is None or True
            with pytest.raises(UsageFault):
                handle.read(1)
        it.bridge.unplug("DUT")
        assert it.device.diary == ["prepare", "entry from D3", "surprise", "exit to D3", "release", "removed"]
