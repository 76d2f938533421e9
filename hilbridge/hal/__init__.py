"""Real hardware: what stands on pyserial, terminals and sockets, behind the seam `hilbridge.model.hardware.Line`.

`monikers.open_line` is the way in. Each kind of line is a module of its own, imported when it is first used, so that
nobody pays for pyserial who does not open a port.
"""
