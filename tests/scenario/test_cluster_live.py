"""A live cluster leaves nothing behind, whatever happens to it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from multiprocess.util import get_temp_dir

from labsim.base.errors import InputError
from labsim.scenario.cluster import Cluster
from tests.runtime.test_processes import eventually, gone
from tests.scenario.fakes import FAKE

pytestmark = pytest.mark.live
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A place for the clusters' directories that can be looked at afterwards."""
    get_temp_dir()  # that of multiprocess stays as long as this process, and lies elsewhere
    place = tmp_path / "t"
    place.mkdir()
    if len(str(place)) > 50:
        place = Path(f"/tmp/labsim-t{os.getpid()}")
        place.mkdir(exist_ok=True)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    yield place
    assert list(place.iterdir()) == []
    if place.parent == Path("/tmp"):
        place.rmdir()


def pids(cluster):
    return [handle.pid for handle in cluster.nodes.values()]


@pytest.mark.parametrize("tcp", [False, True])
def test_nothing_is_left_after_a_good_run(temporary, tcp):
    with Cluster(runtime="live", tcp=tcp, **FAKE) as c:
        (directory,) = temporary.iterdir()
        assert directory.stat().st_mode & 0o777 == 0o700
        for socket in directory.iterdir():
            if socket.is_socket():
                assert socket.stat().st_mode & 0o777 == 0o600
        assert c.client(0).run("echo OST0000 x").status == 0
        running = pids(c)
    assert all(map(gone, running))


def test_nothing_is_left_after_an_exception():
    with pytest.raises(ZeroDivisionError), Cluster(runtime="live", **FAKE) as c:
        running = pids(c)
        c.client(0).command("sleep 5000000000")
        1 / 0  # noqa: B018
    assert all(map(gone, running))


def test_nothing_is_left_when_it_does_not_come_up():
    broken = FAKE | {"kits": "tests.scenario.fakes:no_such_function"}
    with pytest.raises(Exception, match="no_such_function"), Cluster(runtime="live", **broken):
        pass


def test_a_node_that_dies_by_itself_is_told_with_its_last_words():
    with pytest.raises(Exception, match="a bug in the background"), \
            Cluster(runtime="live", **FAKE) as c:  # fmt: skip
        c.node("oss0").run("background-bug")
        c.run(c.env.timeout(2_000_000_000))


def test_nodes_refuse_what_does_not_fit_and_live(temporary):
    import zmq

    with Cluster(runtime="live", **FAKE) as c:
        (directory,) = temporary.iterdir()
        target = next(d for d in directory.iterdir() if d.name.startswith("lnet-10.0.2.1"))
        socket = c.env.context.socket(zmq.DEALER)
        socket.linger = 0
        socket.setsockopt(zmq.ROUTING_ID, b"10.1.0.1@tcp")
        socket.connect(f"ipc://{target}")
        for data in (b"", b"x" * 50, b"\xc1" + bytes(200), os.urandom(100_000)):
            socket.send(data)
        until = time.monotonic() + 5
        while c.run(c.node("oss0").snapshot())["lnet"]["refused"] < 4:
            assert time.monotonic() < until
        socket.close()
        assert "refused: " in c.node("oss0").log()
        assert c.client(0).run("echo OST0000 x").status == 0


def test_a_directory_that_was_asked_for_stays_without_sockets(tmp_path):
    home = tmp_path / "home" if len(str(tmp_path)) < 50 else Path(f"/tmp/labsim-h{os.getpid()}")
    with Cluster(runtime="live", directory=str(home), **FAKE):
        pass
    assert home.stat().st_mode & 0o777 == 0o700
    assert not [entry for entry in home.iterdir() if entry.is_socket()]
    assert (home / "disks").is_dir()
    subprocess.run(["rm", "-r", str(home)], check=True)


def test_a_directory_with_too_long_a_name_is_refused(tmp_path):
    with pytest.raises(InputError, match="characters at most"), \
            Cluster(runtime="live", directory=str(tmp_path / ("x" * 80)), **FAKE):  # fmt: skip
        pass


PROGRAM = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from labsim.scenario.cluster import Cluster
from tests.scenario.fakes import FAKE
with Cluster(runtime="live", **FAKE) as cluster:
    print(*[handle.pid for handle in cluster.nodes.values()], flush=True)
    cluster.client(0).run("sleep 60000000000")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_after_a_signal(temporary, tmp_path, number):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(program), str(temporary)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    running = [int(pid) for pid in process.stdout.readline().split()]
    assert len(running) == 4
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    process.wait(10)
    process.stdout.close()
    eventually(lambda: all(map(gone, running)))
    eventually(lambda: not list(temporary.iterdir()))
