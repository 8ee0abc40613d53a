"""Lost, late and cut-off messages, fault points: nothing is done twice, nobody waits for ever."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.units import KIB, NS_PER_MS, NS_PER_S
from labsim.net.lnet import GET, PUT, REPLY
from labsim.scenario import checkers
from labsim.scenario.cluster import Cluster
from labsim.wire.constants import LDLM_ENQUEUE, MDS_CLOSE, MDS_REINT, OST_READ, OST_WRITE

from .rig import O_APPEND, O_CREAT, O_EXCL, O_RDWR, O_SYNC, O_WRONLY, Process, fails


class Net:
    """A cluster, a process on each of its two clients, and the events of the trace by kind."""

    def __init__(self, **options: Any) -> None:
        self.cluster = Cluster(clients=2, oss=2, osts=2, trace_keep=0, **options)
        self.cluster.__enter__()
        self.a, self.b = Process(self.cluster, 0), Process(self.cluster, 1)
        self.events = Counter[str]()
        self.cluster.trace.listeners.append(lambda event: self.events.update([event.kind]))

    def lose(self, src: str, dst: str, **match: Any) -> None:
        """Lose the next message of a kind."""
        rule = self.cluster.rule("lose", "drop", [src], [dst], **{"count": 1, **match})
        self.cluster.run(self.cluster.net(rule))

    def heal(self) -> None:
        self.cluster.run(self.cluster.heal())

    def wait(self, seconds: float) -> None:
        self.cluster.run(self.cluster.env.timeout(int(seconds * NS_PER_S)))

    def at_once(self, *calls: Any) -> list[Any]:
        """Run several calls side by side: their values, or their errors."""
        found: list[Any] = [None] * len(calls)

        def one(place: int, call: Any) -> Any:
            try:
                found[place] = yield from call
            except LustreError as error:
                found[place] = error

        env = self.cluster.env
        self.cluster.run(env.all_of([env.process(one(n, c)) for n, c in enumerate(calls)]))
        return found

    def sound(self) -> None:
        """All quiet again, and every invariant holds."""
        self.heal()
        self.wait(300)
        assert checkers.check([self.cluster.run(self.cluster.snapshots())]) == []


@pytest.fixture
def net() -> Iterator[Net]:
    made = Net()
    yield made
    made.sound()
    made.cluster.close()


# ---- one message is lost

OPERATIONS: dict[str, tuple[int, Callable[[Process], Any], Callable[[Process], Any], Any]] = {
    "mkdir": (MDS_REINT, lambda p: p.mkdir("new"), lambda p: p.stat("new").nlink, 2),
    "mknod": (MDS_REINT, lambda p: p.mknod("new", 0o100600), lambda p: p.stat("new").nlink, 1),
    "symlink": (MDS_REINT, lambda p: p.symlink("f", "new"), lambda p: p.readlink("new"), "f"),
    "link": (MDS_REINT, lambda p: p.link("f", "new"), lambda p: p.stat("f").nlink, 2),
    "unlink": (MDS_REINT, lambda p: p.unlink("f"), lambda p: p.names(), ["d"]),
    "rmdir": (MDS_REINT, lambda p: p.rmdir("d"), lambda p: p.names(), ["f"]),
    "rename": (MDS_REINT, lambda p: p.rename("f", "d/f"), lambda p: p.names("d"), ["f"]),
    "chmod": (MDS_REINT, lambda p: p.chmod("f", 0o600), lambda p: p.stat("f").mode, 0o100600),
    "setxattr": (
        MDS_REINT,
        lambda p: p.setxattr("f", "user.x", b"1", 1),
        lambda p: p.getxattr("f", "user.x"),
        b"1",
    ),
    "removexattr": (
        MDS_REINT,
        lambda p: p.removexattr("f", "user.old"),
        lambda p: p.listxattr("f").count(b"user"),
        0,
    ),
    "create": (
        LDLM_ENQUEUE,
        lambda p: p.close(p.open("new", O_WRONLY | O_CREAT | O_EXCL)),
        lambda p: p.names(),
        ["d", "f", "new"],
    ),
    "close": (MDS_CLOSE, lambda p: p.put("f", b"closed"), lambda p: p.get("f"), b"closed"),
    "write": (OST_WRITE, lambda p: put_out(p, b"x" * 70_000), lambda p: p.stat("f").size, 70_000),
    "read": (OST_READ, lambda p: p.get("f"), lambda p: p.get("f"), b"content"),
}


def put_out(process: Process, data: bytes) -> None:
    """Write a file and have it on its OST."""
    process.put("f", data)
    process.sync()


@pytest.mark.parametrize("what", ["request", "reply"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_lost_message_does_no_harm(name: str, what: str, net: Net) -> None:
    """Sent again after its timeout, done once; the caller sees neither EEXIST nor ENOENT."""
    opcode, act, look, wanted = OPERATIONS[name]
    net.b.put("f", b"content")
    net.a.setxattr("f", "user.old", b"1")
    net.a.mkdir("d")
    net.wait(10)
    server = "mds0"
    if opcode in (OST_WRITE, OST_READ):
        server = "oss0" if net.a.lov_getstripe("f").objects[0].ost == 0 else "oss1"
    ends = ("c0", server) if what == "request" else (server, "c0")
    net.events.clear()
    net.lose(*ends, opc=opcode, kind=PUT)
    started = net.cluster.env.now
    act(net.a)
    assert net.events["lnet.drop"] == 1
    assert net.cluster.env.now - started > NS_PER_S, "it was waited for"
    assert look(net.b) == wanted
    assert look(net.a) == wanted


@pytest.mark.parametrize("kind", [GET, REPLY])
def test_lost_bulk_data_is_fetched_again(kind: int, net: Net) -> None:
    net.a.setstripe("f", count=1, offset=0)
    file = net.a.open("f", O_RDWR)
    ends = ("oss0", "c0") if kind == GET else ("c0", "oss0")
    net.lose(*ends, kind=kind)
    net.a.write(file, b"w" * 300_000)
    net.a.fsync(file)
    net.a.close(file)
    assert net.events["lnet.drop"] == 1
    assert net.b.get("f") == b"w" * 300_000


def test_an_append_whose_reply_is_lost_is_in_the_file_once(net: Net) -> None:
    net.a.put("log", b"one\n")
    server = f"oss{net.a.lov_getstripe('log').objects[0].ost}"
    file = net.a.open("log", O_WRONLY | O_APPEND)
    net.lose(server, "c0", opc=OST_WRITE)
    net.a.write(file, b"two\n")
    net.a.write(file, b"three\n")
    net.a.close(file)
    assert net.b.get("log") == b"one\ntwo\nthree\n"


# ---- loss, delay


@pytest.mark.parametrize("seed", range(3))
def test_a_lossy_network_costs_time_only(seed: int) -> None:
    """One message in 25 is lost for a while; all that was done is there, once."""
    net = Net(seed=seed)
    rule = net.cluster.rule("loss", rate=0.04, seed=seed)
    net.cluster.run(net.cluster.net(rule))

    def work(process: Process, mark: str) -> Any:
        vfs = process.vfs
        yield from vfs.mkdir(mark)
        for number in range(25):
            path = f"{mark}/{number}"
            file = yield from vfs.open(path, O_RDWR | O_CREAT | O_EXCL)
            yield from vfs.write(file, f"{mark}{number}".encode() * 5000)
            yield from vfs.close(file)
            if number % 3 == 0:
                yield from vfs.rename(path, f"{path}.moved")
            if number % 5 == 0:
                yield from vfs.link(f"{mark}/{number // 3 * 3}.moved", f"{path}.link")

    found = net.at_once(work(net.a, "a"), work(net.b, "b"))
    evicted = net.events["export.evict"]
    net.sound()
    for process, mark in ((net.b, "a"), (net.a, "b")):
        names = process.names(mark)
        if found[mark == "b"] is None:
            moved = {f"{n}.moved" if n % 3 == 0 else f"{n}" for n in range(25)}
            assert set(names) == moved | {f"{n}.link" for n in range(0, 25, 5)}
        else:
            assert evicted, found
        for name in names:
            if name.endswith(".link"):
                continue
            number = name.removesuffix(".moved")
            data = process.get(f"{mark}/{name}")
            assert data == f"{mark}{number}".encode() * 5000 or evicted
    net.cluster.close()


def test_delay_costs_what_it_says(net: Net) -> None:
    net.a.mkdir("before")  # by now the client has a sequence for its FIDs
    net.a.mkdir("first")
    rule = net.cluster.rule("slow", "delay", ["c0"], ["mds0"], delay_ns=700 * NS_PER_MS)
    net.cluster.run(net.cluster.net(rule))
    started = net.cluster.env.now
    net.a.mkdir("late")
    took = net.cluster.env.now - started
    assert 700 * NS_PER_MS < took < 1500 * NS_PER_MS
    started = net.cluster.env.now
    net.b.mkdir("early")
    assert net.cluster.env.now - started < 10 * NS_PER_MS


# ---- partitions


def test_a_partition_stops_one_client_not_the_other(net: Net) -> None:
    net.b.put("f", b"before")
    net.cluster.run(net.cluster.partition(["c0"], ["mds0", "oss0", "oss1"]))
    env = net.cluster.env
    done: list[int] = []

    def cut_off() -> Any:
        yield from net.a.vfs.mkdir("cut-off")
        done.append(env.now)

    process = env.process(cut_off())
    net.b.put("g", b"goes on")
    net.b.put("f", b"taken over")
    assert not done
    net.wait(90)
    assert not done, "it hangs, it does not fail"
    net.heal()
    healed = env.now
    net.cluster.run(process)
    assert done[0] - healed < 100 * NS_PER_S
    assert net.b.names() == ["cut-off", "f", "g"]
    assert net.a.get("f") == b"taken over"


def test_a_silent_lock_holder_is_evicted_so_that_others_go_on(net: Net) -> None:
    """c0 caches a file and a directory; it never hears that c1 wants them."""
    net.a.mkdir("d")
    net.a.put("d/f", b"old" * 1000)
    net.a.sync()
    assert net.a.names("d") == ["f"]
    net.cluster.run(net.cluster.partition(["mds0", "oss0", "oss1"], ["c0"]))
    started = net.cluster.env.now
    net.b.put("d/f", b"new")
    net.b.put("d/g", b"next")
    took = net.cluster.env.now - started
    assert NS_PER_S < took < 300 * NS_PER_S
    assert net.events["export.evict"] >= 1
    started = net.cluster.env.now
    net.b.put("d/h", b"last")
    assert net.cluster.env.now - started < NS_PER_S, "only the first one waits"
    net.heal()
    net.wait(60)
    assert net.a.names("d") == ["f", "g", "h"]
    assert net.a.get("d/f") == b"new"
    net.a.put("d/f", b"and back")
    assert net.b.get("d/f") == b"and back"


def test_an_evicted_client_loses_its_open_files_and_can_open_again(net: Net) -> None:
    net.a.put("f", b"x")
    net.a.sync()
    file = net.a.open("f", O_RDWR)
    net.cluster.run(net.cluster.partition(["mds0", "oss0", "oss1"], ["c0"]))
    net.b.chmod("f", 0o600)
    net.b.put("f", b"theirs")
    net.heal()
    net.wait(60)
    mdt = net.cluster.node("mds0").machine.node.targets[0]
    net.a.close(file)
    assert mdt.snapshot()["opens"] == []
    assert net.a.get("f") == b"theirs"


def test_servers_that_lose_one_another_find_one_another(net: Net) -> None:
    """The MDT cannot reach an OST: it gives out what is in store there, then files go elsewhere."""
    net.cluster.run(net.cluster.partition(["mds0"], ["oss0"]))
    net.wait(120)
    for number in range(80):
        net.a.put(f"f{number}", b"data")
    used = [net.a.lov_getstripe(f"f{number}").objects[0].ost for number in range(80)]
    assert used.count(0) == 32
    assert set(used[64:]) == {1}
    net.heal()
    net.wait(120)
    for number in range(4):
        net.a.put(f"g{number}", b"data")
    used = {net.a.lov_getstripe(f"g{number}").objects[0].ost for number in range(4)}
    assert used == {0, 1}


# ---- fault points


def fail_loc(net: Net, node: str, loc: int, val: int = 0) -> None:
    """What an administrator types."""
    result = net.cluster.node(node).run(f"lctl set_param fail_val={val} fail_loc={loc:#x}")
    assert result.status == 0, result.stderr


def mkdirs(net: Net, count: int) -> list[bool]:
    """Which of so many mkdirs failed."""
    failed = []
    for number in range(count):
        try:
            net.a.mkdir(f"d{net.cluster.env.now}-{number}")
            failed.append(False)
        except OSError as error:
            assert error.errno == errno.ESTALE
            failed.append(True)
    return failed


def test_bits_of_fail_loc(net: Net) -> None:
    """MDS_REINT_CREATE (0x10b) fails a create; the high bits say which."""
    fail_loc(net, "mds0", 0x10B)
    assert mkdirs(net, 4) == [True] * 4
    fail_loc(net, "mds0", 0)
    assert mkdirs(net, 2) == [False] * 2
    fail_loc(net, "mds0", 0x8000010B)
    assert mkdirs(net, 4) == [True, False, False, False]
    fail_loc(net, "mds0", 0x2000010B, 2)
    assert mkdirs(net, 5) == [False, False, True, True, True]
    fail_loc(net, "mds0", 0xA000010B, 2)
    assert mkdirs(net, 5) == [False, False, True, False, False]
    fail_loc(net, "mds0", 0x1000010B, 3)
    assert mkdirs(net, 6) == [True, True, True, False, False, False]
    fail_loc(net, "mds0", 0x0800010B, 4)
    hits = mkdirs(net, 80)
    assert 8 < sum(hits) < 35
    fail_loc(net, "mds0", 0)


def test_random_faults_are_drawn_from_the_seed() -> None:
    def hits(seed: int) -> list[bool]:
        net = Net(seed=seed)
        fail_loc(net, "mds0", 0x0800010B, 3)
        found = mkdirs(net, 40)
        net.cluster.close()
        return found

    assert hits(1) == hits(1)
    assert hits(1) != hits(2)


def test_faults_of_an_oss(net: Net) -> None:
    """ENOSPC is told at once; what a client may try again it does (osc_recoverable_error)."""
    net.a.setstripe("f", count=1, offset=0)
    file = net.a.open("f", O_RDWR | O_SYNC)
    fail_loc(net, "oss0", 0x80000215)
    with fails(errno.ENOSPC):
        net.a.write(file, b"no room")
    assert net.a.write(file, b"room", 0) == 4
    for recoverable in (0x80000216, 0x8000020E):
        fail_loc(net, "oss0", recoverable)
        assert net.a.write(file, b"again", 0) == 5
    for lasting in (0x216, 0x20E):
        fail_loc(net, "oss0", lasting)
        with fails(errno.EIO):  # what a mapping keeps of an error (AS_EIO)
            net.a.write(file, b"x", 0)
    fail_loc(net, "oss0", 0x8000020A)
    assert net.a.write(file, b"lost once", 0) == 9
    net.a.close(file)
    assert net.b.get("f") == b"lost once"
    fail_loc(net, "oss0", 0)


def test_reactions_by_name(net: Net) -> None:
    """As a scenario's `fault:` arms them: fail with an errno, delay, hold until the cure."""
    mds = net.cluster.node("mds0")
    env = net.cluster.env
    net.cluster.run(mds.fault(0x10B, reaction="fail", value=errno.EDQUOT))
    with fails(errno.EDQUOT):
        net.a.mkdir("d")
    net.cluster.run(mds.fault(0x10B, reaction="off"))
    net.cluster.run(mds.fault(0x142, reaction="delay", value=3 * NS_PER_S))
    started = env.now
    net.a.mkdir("d")
    assert 3 * NS_PER_S < env.now - started < 4 * NS_PER_S
    net.cluster.run(mds.fault(0x142, reaction="off"))
    net.cluster.run(mds.fault(0x10B, reaction="hold"))
    held = env.process(net.a.vfs.mkdir("held"))
    net.wait(2)
    assert not held.triggered
    assert net.b.names() == ["d"], "others go on"
    net.cluster.run(mds.fault(0x10B, reaction="off"))
    net.cluster.run(held)
    assert net.b.names() == ["d", "held"]


@pytest.mark.parametrize(
    "point",
    [0x107, 0x119, 0x115, 0x13B, 0x157, 0x302, 0x304, 0x305, 0x306, 0x307, 0x30C],
    ids=hex,
)
def test_messages_lost_at_fault_points_of_the_mds(point: int, net: Net) -> None:
    """Every second visit loses its message, for a while: names and contents are right after it."""
    fail_loc(net, "mds0", 0x08000000 | point, 4)

    def work(process: Process, mark: str) -> Any:
        vfs = process.vfs
        for number in range(6):
            path = f"{mark}{number}"
            file = yield from vfs.open(path, O_RDWR | O_CREAT | O_EXCL)
            yield from vfs.write(file, path.encode() * 100)
            yield from vfs.close(file)
            yield from vfs.rename(path, f"{path}.moved")
            yield from vfs.readdir()

    found = net.at_once(work(net.a, "a"), work(net.b, "b"))
    fail_loc(net, "mds0", 0)
    evicted = net.events["export.evict"]
    assert found == [None, None] or evicted, found
    net.wait(100)
    if not evicted:
        names = [f"{mark}{number}.moved" for mark in "ab" for number in range(6)]
        assert net.a.names() == net.b.names() == names


@pytest.mark.parametrize("point", [0x20A, 0x20B, 0x214, 0x302, 0x307, 0x30C], ids=hex)
def test_messages_lost_at_fault_points_of_an_oss(point: int, net: Net) -> None:
    net.a.setstripe("f", count=1, offset=0)
    fail_loc(net, "oss0", 0x08000000 | point, 4)
    model = bytearray(200 * KIB)
    for number in range(12):
        process = (net.a, net.b)[number % 2]
        file = process.open("f", O_RDWR)
        at, data = number * 7919, bytes([65 + number]) * 30_000
        process.write(file, data, at)
        model[at : at + 30_000] = data
        assert process.read(file, 30_000, at) == data
        process.close(file)
        if number == 6:
            process.truncate("f", at)
            model[at:] = bytes(len(model) - at)
    fail_loc(net, "oss0", 0)
    assert net.a.get("f") == bytes(model[: 11 * 7919 + 30_000])


# ---- power


def test_a_write_through_the_restart_of_its_ost(net: Net) -> None:
    """The OSS is off for a minute: fsync waits for it, and all that was written is there then.

    An idle client would not notice, and the recovery would wait for it in vain.
    """
    for process in (net.a, net.b):
        process.vfs.node.host.params.set("osc.*.idle_timeout", "0")
    net.a.setstripe("f", count=1, offset=0)
    file = net.a.open("f", O_RDWR)
    net.a.write(file, b"1" * 100_000)
    net.a.fsync(file)
    net.cluster.run(net.cluster.node("oss0").kill())
    env = net.cluster.env
    assert net.a.write(file, b"2" * 100_000) == 100_000, "the cache takes it"
    fsync = env.process(net.a.vfs.fsync(file))
    net.wait(60)
    assert not fsync.triggered
    net.cluster.run(net.cluster.node("oss0").start())
    net.cluster.run(fsync)
    assert net.events["export.evict"] == 0
    net.a.close(file)
    assert net.b.get("f") == net.a.get("f") == b"1" * 100_000 + b"2" * 100_000


def test_what_was_synced_survives_the_power_of_all_servers(net: Net) -> None:
    net.a.mkdir("d")
    net.a.setstripe("d/f", count=2, size=64 * KIB)
    file = net.a.open("d/f", O_RDWR)
    net.a.write(file, b"s" * 200_000)
    net.a.fsync(file)
    net.a.close(file)
    net.a.setxattr("d/f", "user.kept", b"yes")
    net.a.sync()
    net.b.put("unsynced", b"?")
    for name in ("mds0", "oss0", "oss1"):
        net.cluster.run(net.cluster.node(name).kill())
    for name in ("mds0", "oss0", "oss1"):
        net.cluster.run(net.cluster.node(name).start())
    net.wait(200)
    for process in (net.a, net.b):
        assert process.get("d/f") == b"s" * 200_000
        assert process.getxattr("d/f", "user.kept") == b"yes"
    assert set(net.b.names()) >= {"d"}
