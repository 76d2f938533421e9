"""`Console.command` against a scripted device on a virtual clock: its echo, what came before it, and how it fails."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilbridge.bridge.console import ECHO_GRACE, SETTLE, Console
from hilbridge.bridge.expect import ExpectTimeout
from hilbridge.model.errors import DeviceGone, DeviceTimeout, UsageFault
from tests.bridge.consolekit import VERSION, Device, Shell

# -------------------------------------------------------------------------------------------------------------- command


def test_a_command_returns_what_came_between() -> None:
    device = Device(answer=Shell({"version": VERSION}))
    con = Console(device, prompt="=> ")
    assert con.command("version") == "U-Boot 2023.01 (Jan 09 2023)\n\ngcc 12.2"
    assert device.sent == b"version\n"
    assert con.leftover == ""
    assert con.buffer == ""
    assert con.after == "=> "
    assert con.match is not None


@given(
    st.sampled_from(["", "one\r\n", "a => b\r\n", "\r\nx\r\n\r\n", "é€\r\n", "no newline at the end\r\n"]),
    st.integers(1, 12),
    st.booleans(),
)
def test_a_command_does_not_depend_on_the_pieces(answer: str, size: int, echo: bool) -> None:
    con = Console(Device(answer=Shell({"run": answer}, size=size, echo=echo)), prompt="=> ")
    for _ in range(2):
        assert con.command("run") == answer.replace("\r\n", "\n").removesuffix("\n")
        assert (con.leftover, con.buffer) == ("", "")


def test_the_prompt_in_the_middle_of_a_line_does_not_end_a_command() -> None:
    answer = "use a => b\r\nor x=> \r\n  => indented\r\n"
    con = Console(Device(answer=Shell({"help": answer}, size=1)), prompt="=> ")
    assert con.command("help") == "use a => b\nor x=> \n  => indented"


def test_a_compiled_prompt_is_used_as_it_is() -> None:
    prompt = re.compile(r"\x1b\[3\dm\w+@\w+[$#]\x1b\[0m ")
    device = Device(answer=Shell({"id": "uid=0\r\n"}, prompt="\x1b[32mroot@dut#\x1b[0m "))
    assert Console(device, prompt=prompt).command("id") == "uid=0"


def test_the_prompt_can_be_given_with_the_command() -> None:
    device = Device(answer=Shell({"ls": "a\r\n"}, prompt="$ "))
    con = Console(device)
    with pytest.raises(UsageFault, match="must know the prompt"):
        con.command("ls")
    assert device.sent == b""
    assert con.command("ls", prompt="$ ") == "a"


@pytest.mark.parametrize("prompt", ["", re.compile("(x)?")])
def test_an_empty_prompt_is_refused(prompt: str | re.Pattern[str]) -> None:
    with pytest.raises(UsageFault, match="empty"):
        Console(Device(), prompt=prompt)


@pytest.mark.parametrize("line", ["a\nb", "a\r", "\n"])
def test_a_command_is_one_line(line: str) -> None:
    device = Device()
    with pytest.raises(UsageFault, match="more than one line"):
        Console(device, prompt="=> ").command(line)
    assert device.sent == b""


def test_an_empty_command_gives_nothing() -> None:
    con = Console(Device(answer=Shell({})), prompt="=> ")
    assert con.command("") == ""
    assert con.command("unknown") == ""


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\r\r\n", "\n\r"])
def test_all_line_ends(end: str) -> None:
    con = Console(Device(answer=Shell({"run": f"one{end}"}, size=1, end=end)), prompt="=> ")
    assert con.command("run") == "one"


def test_a_long_run_of_carriage_returns_costs_no_more_than_other_text() -> None:
    bar = "\r" * 600_000  # 2 ms, or minutes if it were quadratic
    con = Console(Device(answer=Shell({"flash": bar + "done\r\n"})), prompt="=> ")
    assert con.command("flash") == bar + "done"


# ---------------------------------------------------------------------------------------------------- command: the echo


def test_without_an_echo_the_first_command_finds_that_out_and_the_others_know() -> None:
    device = Device(answer=Shell({"version": VERSION}, echo=False))
    con = Console(device, prompt="=> ")
    for waited in [0.01 + ECHO_GRACE, 0.01, 0.01]:
        before = device.now()
        assert con.command("version") == "U-Boot 2023.01 (Jan 09 2023)\n\ngcc 12.2"
        assert device.now() - before == pytest.approx(waited)
        assert con.leftover == ""


def test_echo_false_looks_for_none() -> None:
    device = Device(answer=Shell({"ping": "ping\r\npong\r\n"}, echo=False))
    con = Console(device, prompt="=> ", echo=False)
    assert con.command("ping") == "ping\npong"
    assert device.now() == pytest.approx(100.01)


def test_echo_true_insists() -> None:
    device = Device(answer=Shell({"run": "ok\r\n"}, echo=False))
    con = Console(device, prompt="=> ", echo=True)
    with pytest.raises(ExpectTimeout, match="the echo of 'run' did not come within 3 s") as caught:
        con.command("run", timeout=3)
    assert caught.value.partial == b"ok\r\n=> "
    assert con.buffer == "ok\r\n=> "


def test_another_echo_is_refused() -> None:
    with pytest.raises(UsageFault, match="echo="):
        Console(Device(), echo="maybe")  # type: ignore[call-overload]


def test_output_that_repeats_the_command_is_not_the_echo() -> None:
    answer = "run\r\nrun is a command: run\r\nrun\r\n"
    con = Console(Device(answer=Shell({"run": answer}, size=3)), prompt="=> ")
    assert con.command("run") == "run\nrun is a command: run\nrun"


def test_a_line_that_only_ends_in_the_command_is_not_the_echo() -> None:
    answer = "commands:\r\n  help\r\ntry help\r\n"
    con = Console(Device(answer=Shell({"help": answer}, echo=False)), prompt="=> ")
    assert con.command("help") == "commands:\n  help\ntry help"
    assert con.leftover == ""


def test_a_line_that_only_begins_with_the_command_is_not_the_echo() -> None:
    con = Console(Device(answer=Shell({"run": "running\r\nok\r\n"}, echo=False)), prompt="=> ")
    assert con.command("run") == "running\nok"


def test_a_long_answer_without_an_echo_has_only_one_first_line() -> None:
    answer = "commands:\r\n" + "try help\r\n" * 50
    con = Console(Device(answer=Shell({"help": answer}, echo=False, size=5)), prompt="=> ", window=16)
    assert con.command("help") == answer.replace("\r\n", "\n").removesuffix("\n")


def test_a_device_that_echoes_again_gets_its_time_to_echo_again() -> None:
    shell = Shell({"run": "ok\r\n"}, echo=False)
    device = Device(answer=shell)
    con = Console(device, prompt="=> ")
    assert con.command("run") == "ok"
    shell.echo = True
    assert con.command("run") == "ok"
    device._answer = lambda _: [(0.01, b"=> "), (0.1, b"run\r\nok\r\n=> ")]
    assert con.command("run") == "ok"


def test_an_empty_command_without_echo_keeps_an_empty_first_line() -> None:
    con = Console(Device(answer=Shell({"": "\r\nx\r\n"}, echo=False)), prompt="=> ", echo=False)
    assert con.command("") == "\nx"


def test_the_time_to_echo_ends_with_the_deadline() -> None:
    device = Device(answer=Shell({"run": "ok\r\n"}, echo=False))
    assert Console(device, prompt="=> ").command("run", timeout=0.1) == "ok"
    assert device.now() == pytest.approx(100.1)


def test_a_device_that_stops_and_starts_to_echo() -> None:
    shell = Shell({"run": "ok\r\n"})
    con = Console(Device(answer=shell), prompt="=> ")
    for shell.echo in [True, False, False, True, True]:
        assert con.command("run") == "ok"


# --------------------------------------------------------------------------------------- command: what was there before


def test_what_came_before_a_command_is_left_over_and_visible() -> None:
    device = Device(
        (0, b"[1.0] eth0: link up\r\n=> "), (0, b"[2.0] eth0: link down\r\n"), answer=Shell({"run": "ok\r\n"})
    )
    con = Console(device, prompt="=> ")
    assert con.command("run") == "ok"
    assert con.leftover == "[1.0] eth0: link up\r\n=> [2.0] eth0: link down\r\n"
    assert device.now() == pytest.approx(100.01)  # the prompt had been shown: nothing to wait for
    assert con.command("run") == "ok"
    assert con.leftover == ""


def test_an_old_prompt_does_not_end_a_command() -> None:
    """Stopping an autoboot: the prompt that the key brings comes only after command() was called."""
    shell = Shell({"version": VERSION})
    device = Device((1, b"Hit any key to stop autoboot:  2 "), answer=lambda _: [])
    con = Console(device, prompt="=> ")
    con.expect(r"autoboot", timeout=5)
    device._answer = lambda data: [(0.5, b"\x08\x08\x08 0 \r\n=> ")] if data == b" " else shell(data)
    con.send(" ")
    assert con.command("version") == "U-Boot 2023.01 (Jan 09 2023)\n\ngcc 12.2"
    assert device.sent == b" version\n"
    assert con.leftover == ":  2 \x08\x08\x08 0 \r\n=> "
    assert device.now() == pytest.approx(101.51)


def test_a_prompt_that_comes_late_does_not_end_a_command() -> None:
    """A board that is just starting: it reads what was typed ahead when it is up."""
    device = Device((0.7, b"\r\nU-Boot\r\n"), (0.8, b"=> "), (0.82, b"version\r\nU-Boot 2023.01\r\n=> "))
    con = Console(device, prompt="=> ")
    assert con.command("version") == "U-Boot 2023.01"
    assert con.leftover == "\r\nU-Boot\r\n=> "


def test_a_device_that_is_talking_is_waited_for() -> None:
    device = Device(*((0.9 * i, b"booting\r\n") for i in range(5)), (4.2, b"=> "), answer=Shell({"run": "ok\r\n"}))
    con = Console(device, prompt="=> ")
    assert con.command("run", timeout=10) == "ok"
    assert device.now() == pytest.approx(104.21)
    assert con.leftover == "booting\r\n" * 5 + "=> "


def test_a_device_that_is_silent_without_a_prompt_gets_the_command_all_the_same() -> None:
    device = Device((0, b"[1.0] eth0: link up\r\n"), answer=Shell({"run": "ok\r\n"}))
    con = Console(device, prompt="=> ")
    assert con.command("run") == "ok"
    assert con.leftover == "[1.0] eth0: link up\r\n"
    assert device.now() == pytest.approx(100 + SETTLE + 0.01)


def test_after_send_the_prompt_is_waited_for() -> None:
    device = Device(answer=Shell({"slow": "done\r\n", "run": "ok\r\n"}, delay=0.6))
    con = Console(device, prompt="=> ")
    assert con.command("run") == "ok"
    con.sendline("slow")
    assert con.command("run") == "ok"
    assert con.leftover == "slow\r\ndone\r\n=> "
    assert device.now() == pytest.approx(101.8)


def test_a_command_is_not_sent_if_the_deadline_comes_before_the_prompt() -> None:
    device = Device()
    con = Console(device, prompt="=> ")
    con.send(" ")
    with pytest.raises(ExpectTimeout, match="was not sent"):
        con.command("run", timeout=0.5)
    assert device.now() == pytest.approx(100.5)
    assert device.sent == b" "


def test_characters_that_were_typed_before_are_part_of_the_echo() -> None:
    device = Device(answer=Shell({"run": "ok\r\n"}))
    con = Console(device, prompt="=> ")
    con.send(" ")
    assert con.command("run") == "ok"
    assert con.command("run") == "ok"
    device.say((0.3, b"=> "))
    con.expect_exact("=> ")
    con.send(" ")
    device.time += 1
    assert con.command("run") == "ok"
    assert con.leftover == " "


def test_a_prompt_that_expect_has_seen_needs_no_wait() -> None:
    device = Device((0, b"login: \r\n=> "), answer=Shell({"run": "ok\r\n"}))
    con = Console(device, prompt="=> ")
    con.expect_exact("=> ")
    assert con.command("run") == "ok"
    assert device.now() == pytest.approx(100.01)


def test_a_device_that_never_stops_talking_does_not_get_the_command() -> None:
    device = Device(*((0.5 * i, b"noise\r\n") for i in range(100)), answer=Shell({}))
    con = Console(device, prompt="=> ")
    with pytest.raises(
        ExpectTimeout, match="the command was not sent, because '=> ' at the start of a line did not come"
    ):
        con.command("run", timeout=3)
    assert device.sent == b""
    assert device.now() == pytest.approx(103)
    assert con.buffer == con.before == "noise\r\n" * 7


def test_a_flood_does_not_hold_a_command_up() -> None:
    """It is sent once a scroll-back has been read, however much more is there; the answer comes behind all of it."""
    device = Device(*((0, b"=> \r\n" * 200) for _ in range(20)), answer=Shell({"run": "ok\r\n"}))
    con = Console(device, prompt="=> ", window=100, scrollback=2000)
    reads_before_write: list[int] = []
    write = device.write

    def counting_write(data: bytes, /, *, timeout: float | None) -> int:
        reads_before_write.append(len(device.reads))
        return write(data, timeout=timeout)

    device.write = counting_write  # type: ignore[method-assign]
    assert con.command("run") == "ok"
    assert reads_before_write == [2]
    assert con.leftover.endswith("=> \r\n")
    assert len(con.leftover) <= 2 * (2000 + 100)


# ----------------------------------------------------------------------------------------------- command: when it fails


def test_a_command_without_a_prompt_times_out_and_keeps_the_answer() -> None:
    device = Device(
        answer=lambda data: [(0.1, data.replace(b"\n", b"\r\n")), (0.2, b"working...\r\n"), (6, b"ok\r\n=> ")]
    )
    con = Console(device, prompt="=> ")
    with pytest.raises(ExpectTimeout, match=r"received last: '\\r\\nworking") as caught:
        con.command("run", timeout=5)
    assert caught.value.partial == b"\r\nworking...\r\n"
    assert con.expect_exact("=> ").before == "\r\nworking...\r\nok\r\n"


def test_the_answer_that_comes_too_late_is_left_over_for_the_next() -> None:
    shell = Shell({"slow": "late\r\n", "run": "ok\r\n"}, delay=3)
    con = Console(Device(answer=shell), prompt="=> ")
    with pytest.raises(ExpectTimeout):
        con.command("slow", timeout=1)
    shell.delay = 0.01
    con.expect_exact("late", timeout=5)
    assert con.command("run") == "ok"
    assert con.leftover == "\r\n=> "


def test_the_deadline_of_a_command_includes_all_its_waits() -> None:
    device = Device((0, b"boot\r\n"), (0.9, b"boot\r\n"), answer=lambda _: [])
    with pytest.raises(ExpectTimeout):
        Console(device, prompt="=> ").command("run", timeout=2.5)
    assert device.sent == b"run\n"
    assert device.now() == pytest.approx(102.5)


def test_a_device_that_goes_during_a_command() -> None:
    device = Device(answer=lambda data: [(0.1, b"reset\r\nresetting ...\r\n")])
    device.gone_at = 101.0
    con = Console(device, prompt="=> ")
    with pytest.raises(DeviceGone, match=r"went away while '=> ' at the start of a line was expected") as caught:
        con.command("reset")
    assert caught.value.partial == b"\r\nresetting ...\r\n"


def test_a_device_that_goes_behind_its_prompt_has_answered() -> None:
    device = Device(answer=lambda data: [(0.1, b"ok\r\n=> ")])
    device.gone_at = 100.1
    con = Console(device, prompt="=> ")
    assert con.command("run") == "ok"


def test_a_device_that_went_before_a_command() -> None:
    device = Device((0, b"bye\r\n"))
    device.gone_at = 100.0
    con = Console(device, prompt="=> ")
    with pytest.raises(DeviceGone, match="before a command") as caught:
        con.command("run")
    assert caught.value.partial == b"bye\r\n"
    assert device.sent == b""
    assert con.before == "bye\r\n"


def test_errors_of_the_handle_are_not_changed() -> None:
    class Broken(Device):
        def write(self, data: bytes, /, *, timeout: float | None) -> int:
            raise DeviceTimeout("the peer does not read", partial=b"x")

    con: Any = Console(Broken(), prompt="=> ")
    for call in (con.send, con.sendline, con.command):
        with pytest.raises(DeviceTimeout, match="the peer does not read"):
            call("run")
