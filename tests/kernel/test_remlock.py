"""IO_REMOVE_LOCK: who uses a device keeps it; who takes it away waits."""

from __future__ import annotations

import pytest

from hilbridge.kernel.remlock import RemoveLock
from hilbridge.model.status import STATUS_DELETE_PENDING, STATUS_SUCCESS
from hilbridge.testing.interleave import Granularity, Race, explore
from tests.support import System, bug_check


@pytest.fixture
def system() -> System:
    return System()


def test_it_counts_who_holds_it_by_tag(system: System) -> None:
    lock = RemoveLock(system.ke)
    assert lock.acquire("read") == STATUS_SUCCESS
    assert lock.acquire("read") == STATUS_SUCCESS
    assert lock.acquire() == STATUS_SUCCESS
    assert (lock.count, lock.tags) == (3, {"read": 2, None: 1})
    lock.release("read")
    assert lock.tags == {"read": 1, None: 1}
    assert "read" in repr(lock)


def test_after_the_removal_has_begun_nobody_gets_it(system: System) -> None:
    lock = RemoveLock(system.ke)
    lock.acquire("remove")
    assert lock.release_and_wait("remove") is True, "nobody else had it"
    assert lock.acquire("read") == STATUS_DELETE_PENDING
    assert lock.removed
    assert lock.count == 0


def test_the_removal_waits_for_the_last_user(system: System) -> None:
    lock = RemoveLock(system.ke)
    lock.acquire("read")
    lock.acquire("remove")
    assert lock.release_and_wait("remove", timeout=0.5) is False
    assert system.clock.now() == 500_000_000
    lock.release("read")


@pytest.mark.parametrize("tag", ["other", None])
def test_a_tag_that_nobody_holds(system: System, tag: str | None) -> None:
    lock = RemoveLock(system.ke)
    lock.acquire("read")
    with bug_check(0xC4, 0xD5, lock, tag):
        lock.release(tag)
    with bug_check(0xC4, 0xD6, lock, tag):
        lock.release_and_wait(tag)
    assert lock.tags == {"read": 1}, "and it is held as before"
    assert not lock.removed


def test_a_removal_against_users() -> None:
    """Whoever got the lock has released it when the removal goes on; whoever did not was told."""

    def build() -> Race:
        system = System()
        lock = RemoveLock(system.ke)
        lock.acquire("remove")
        inside: list[str] = []
        story: list[str] = []

        def use() -> None:
            if lock.acquire("use") == STATUS_SUCCESS:
                inside.append("use")
                story.append("used")
                inside.remove("use")
                lock.release("use")
            else:
                story.append("refused")

        def remove() -> None:
            assert lock.release_and_wait("remove", 3600)
            assert not inside
            story.append("removed")

        def check() -> None:
            assert "removed" in story
            assert ("used" in story) is not ("refused" in story)
            assert story.index("removed") > (story.index("used") if "used" in story else -1)

        return Race({"use": use, "remove": remove}, check)

    assert explore(build, granularity=Granularity.LINES, preemptions=1).schedules > 2
