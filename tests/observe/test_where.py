"""Names of code: the file and the function, the same in each run and on each machine."""

from __future__ import annotations

import functools

from hilbridge.drivers.serial.read import read
from hilbridge.iomgr.manager import IoManager
from hilbridge.observe.where import DEPTH, callers, where


class Callable_:  # noqa: N801 - beside the builtin's name
    def __call__(self) -> None:
        """Nothing."""

    def method(self) -> tuple[str, ...]:
        return callers()


def test_functions_and_methods() -> None:
    assert where(read) == "hilbridge/drivers/serial/read.py:read"
    assert where(IoManager.call_driver) == "hilbridge/iomgr/irps.py:IrpRoutines.call_driver"
    assert where(Callable_().method) == "test_where.py:Callable_.method"


def test_what_stands_for_a_function() -> None:
    assert where(functools.partial(functools.partial(where, print))) == "hilbridge/observe/where.py:where"
    assert where(Callable_()) == "test_where.py:Callable_.__call__"
    assert where(len) == "len"
    assert where(lambda: None) == "test_where.py:test_what_stands_for_a_function.<locals>.<lambda>"


def test_callers_innermost_first() -> None:
    found = Callable_().method()
    assert found[:2] == ("test_where.py:Callable_.method", "test_where.py:test_callers_innermost_first")


def test_callers_are_bounded() -> None:
    def deep(levels: int) -> tuple[str, ...]:
        return deep(levels - 1) if levels else callers()

    assert len(deep(200)) <= DEPTH
