"""Processes start fast, end surely, and never stay behind."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labsim.runtime.processes import Processes, forkserver

pytestmark = pytest.mark.live

HERE = "tests.runtime.test_processes"
ROOT = Path(__file__).parent.parent.parent


def say_and_end(argument: bytes) -> None:
    print("got", argument.decode(), flush=True)
    raise SystemExit(7)


def sleep_long(argument: bytes) -> None:
    Path(argument.decode()).write_text(str(os.getpid()))
    time.sleep(60)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):  # it may go between the two
        return True


def eventually(condition, seconds=10.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def processes(tmp_path):
    processes = Processes(str(tmp_path))
    yield processes
    processes.close()


def started(processes, tmp_path, name="node"):
    mark = tmp_path / f"{name}.mark"
    child = processes.start(name, f"{HERE}:sleep_long", str(mark).encode())
    eventually(lambda: mark.exists() and mark.read_text())
    return child


def test_a_child_runs_its_function_and_its_words_go_to_a_file(processes, tmp_path):
    child = processes.start("c0", f"{HERE}:say_and_end", b"hello")
    assert child.wait(10)
    assert child.status == 7
    assert (tmp_path / "c0.log").read_text() == "got hello\n"
    assert (tmp_path / "c0.log").stat().st_mode & 0o777 == 0o600


def test_later_children_start_in_tens_of_milliseconds(processes):
    processes.start("first", f"{HERE}:say_and_end", b"").wait(10)
    start = time.monotonic()
    for number in range(5):
        processes.start(f"c{number}", f"{HERE}:say_and_end", b"")
    assert (time.monotonic() - start) / 5 < 0.25


def test_kill_is_final_and_reported(processes, tmp_path):
    child = started(processes, tmp_path)
    child.kill()
    assert child.wait(10)
    assert child.status == -signal.SIGKILL
    child.kill()
    assert gone(child.pid)


def test_ctrl_c_is_for_the_parent(processes, tmp_path):
    child = started(processes, tmp_path)
    os.kill(child.pid, signal.SIGINT)
    time.sleep(0.05)
    assert child.alive
    child.terminate()
    assert child.wait(10)


def test_ctrl_c_while_the_first_child_starts_is_for_the_parent(processes, tmp_path):
    started(processes, tmp_path)
    status = Path(f"/proc/{forkserver._forkserver_pid}/status").read_text()
    blocked = int(re.search(r"SigBlk:\s*(\w+)", status)[1], 16)
    assert blocked >> (signal.SIGINT - 1) & 1
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_close_ends_all(processes, tmp_path):
    pids = [started(processes, tmp_path, f"n{number}").pid for number in range(3)]
    processes.close()
    assert all(map(gone, pids))


PROGRAM = """
import sys, time
from labsim.runtime.processes import Processes
directory, mark = sys.argv[1:]
Processes(directory).start("orphan", "tests.runtime.test_processes:sleep_long", mark.encode())
print("started", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_children_do_not_outlive_their_parent(tmp_path, number):
    """Also a program without a `__main__` guard, as this one is, starts only what it asks for."""
    directory, mark = tmp_path / "cluster", tmp_path / "mark"
    directory.mkdir()
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, str(program), str(directory), str(mark)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    eventually(lambda: mark.exists() and mark.read_text())
    pid = int(mark.read_text())
    parent.send_signal(number)
    output, _ = parent.communicate(timeout=10)
    assert output == "started\n"
    eventually(lambda: gone(pid))
    if number == signal.SIGKILL:
        eventually(lambda: not directory.exists())
