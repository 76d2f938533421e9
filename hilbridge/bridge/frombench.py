"""`Bridge.from_bench`: a bridge with the devices of a bench file plugged in under their names.

What can be known beforehand is found out before anything is opened: to open a port may reset a board, and a bench of which
one device is missing shall not be half touched.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hilbridge.bridge.benchports import Found, all_of, look
from hilbridge.files.bench import Bench, find_bench, load_bench
from hilbridge.model.errors import HilbridgeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilbridge.bridge.bridge import Bridge
    from hilbridge.testing.fixture import RunningFixture


def bring_up(make: Callable[[], Bridge], file: str | os.PathLike[str] | None, *, virtual: bool) -> Bridge:
    """Read the file, find everything, make the bridge, plug everything in. What fails takes down what was up already."""
    bench = load_bench(find_bench(file))
    found = look(bench, virtual=virtual)
    all_of(found)
    bridge = make()
    try:
        boards = [_plug(bridge, bench, one) for one in found]
        bridge.bench = bench
        # Power comes when everything is connected: no port misses the first byte of a banner.
        for board in boards:
            if board is not None:
                board.reset()
    except BaseException:
        bridge.close()
        raise
    return bridge


def _plug(bridge: Bridge, bench: Bench, one: Found) -> RunningFixture | None:
    """Plug one device in; returns the board that was started for it."""
    device = bench.devices[one.name]
    board, moniker = None, one.moniker
    settings = device.line.model_dump(exclude_unset=True)
    try:
        if one.board is not None:
            from hilbridge.testing.fixture import start_fixture

            board = bridge.belongings.enter_context(start_fixture(one.board, held=True))
            moniker = board.port
            # Its pty has no wire, and so no format: the kernel refuses parity there, which the real board may well need.
            settings = {key: settings[key] for key in settings if key == "baudrate"}
        assert moniker is not None
        bridge.plug(
            moniker,
            name=one.name,
            driver=device.driver,
            upper_filters=device.filters,
            **settings,
        )
    except HilbridgeError as error:
        error.add_words(f" (device {one.name!r} of {bench.where('devices', one.name, key=True)})")
        raise
    return board
