"""``hilbridge new driver``: what it writes runs, is tested, passes the verifier and the tools; nothing is overwritten."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hilbridge.cli.new import skeleton
from hilbridge.observe.verifier.rules import RULES
from tests.cli.clikit import PATIENCE, TOP, Cli, environment


def in_folder(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=environment(),
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(("options", "tests"), [((), 6), (("--filter",), 4)])
def test_what_is_written_runs_is_tested_and_breaks_no_rule(
    cli: Cli, tmp_path: Path, options: tuple[str, ...], tests: int
) -> None:
    ran = cli("new", "driver", "usb_meter", "--dir", str(tmp_path), *options)
    module, test = tmp_path / "usb_meter.py", tmp_path / "test_usb_meter.py"
    assert (ran.code, ran.out) == (0, f"{module}\n{test}\n")
    assert ran.err == (
        f"next: `python -m pytest {test}` runs its tests, `hilbridge verify {module}` looks for broken rules; "
        f"then change {module}\n"
    )
    assert "class UsbMeter(ddk.Device):" in module.read_text(encoding="utf-8")
    assert "keleton" not in module.read_text(encoding="utf-8") + test.read_text(encoding="utf-8")
    tested = in_folder(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", test.name)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert f"{tests} passed" in tested.stdout
    verified = cli("verify", str(module), "--rounds", "5")
    assert (verified.code, verified.out) == (
        0,
        f"{module}: {len(RULES)} rules, 6 rounds: no finding\n".replace(f"{Path.cwd()}/", ""),
    )


def test_the_example_at_its_top_runs(cli: Cli, tmp_path: Path) -> None:
    for name, options, said in (("meter", (), "b'hello'"), ("spy", ("--filter",), "b'hello' {'sent': 5, 'heard': 5}")):
        cli("new", "driver", name, "--dir", str(tmp_path), *options)
        lines = (tmp_path / f"{name}.py").read_text(encoding="utf-8").split('"""')[1].splitlines()
        example = "\n".join(line[4:] for line in lines if line.startswith("    "))
        (tmp_path / "example.py").write_text(example + "\n", encoding="utf-8")
        ran = in_folder(tmp_path, "example")
        assert (ran.returncode, ran.stdout) == (0, f"{said}\n"), ran.stderr


@pytest.mark.parametrize("which", ["driver", "filter", "test_driver", "test_filter"])
def test_what_is_written_is_tidy(tmp_path: Path, which: str) -> None:
    (tmp_path / "usb_meter.py").touch()
    file = tmp_path / f"{which.replace('driver', 'usb_meter').replace('filter', 'usb_meter')}.py"
    file.write_text(skeleton(which, "usb_meter"), encoding="utf-8")
    for words in (
        ("check", "--isolated", "--select", "E,F,I,B,UP", "--line-length", "128"),
        ("format", "--isolated", "--diff", "--line-length", "120"),
    ):
        ran = in_folder(tmp_path, "ruff", *words, file.name)
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("existing", ["meter.py", "test_meter.py"])
def test_no_file_is_overwritten(cli: Cli, tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("mine", encoding="utf-8")
    ran = cli("new", "driver", "meter", "--dir", str(tmp_path))
    assert ran.code == 2
    assert ran.complaint == f"{tmp_path / existing} exists already; choose another name, or another folder with --dir"
    assert [file.name for file in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["9lives", "two words", "a-b", "class", "_x", "", "größe", "../up"])
def test_what_is_no_name(cli: Cli, tmp_path: Path, name: str) -> None:
    ran = cli("new", "driver", "--dir", str(tmp_path), "--", name)
    assert ran.code == 2
    assert "is no name for a module" in ran.complaint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["serial", "null", "json", "hilbridge", "pytest"])
def test_a_name_that_is_taken(cli: Cli, tmp_path: Path, name: str) -> None:
    ran = cli("new", "driver", name, "--dir", str(tmp_path))
    assert ran.code == 2
    assert "is the name of another module or driver" in ran.complaint


def test_a_folder_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    ran = cli("new", "driver", "meter", "--dir", str(tmp_path / "nowhere"))
    assert ran.code == 2
    assert "make it first" in ran.complaint


def test_only_drivers(cli: Cli) -> None:
    assert cli("new", "bench", "meter").code == 2


def test_the_skeletons_are_part_of_the_package() -> None:
    assert (TOP / "hilbridge" / "cli" / "skeletons" / "driver.py").is_file()


def test_a_full_disk_is_said_and_nothing_is_left_behind(cli: Cli, tmp_path: Path) -> None:
    """A limit on the size of files ends a write half-way, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        ran = cli("new", "driver", "meter", "--dir", str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ran.code == 2
    assert f"{tmp_path}/meter.py cannot be written: File too large" in ran.err
    assert not list(tmp_path.iterdir())


def test_a_second_file_that_cannot_be_written_takes_the_first_along(cli: Cli, tmp_path: Path) -> None:
    dangling = tmp_path / "test_meter.py"
    dangling.symlink_to(tmp_path / "nowhere")
    ran = cli("new", "driver", "meter", "--dir", str(tmp_path))
    assert ran.code == 2
    assert f"{dangling} cannot be written: File exists" in ran.err
    assert list(tmp_path.iterdir()) == [dangling], "neither the first file, nor somebody else's taken away"
