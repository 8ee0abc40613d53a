"""What a machine noted survives it, up to the call it was in."""

from __future__ import annotations

from pathlib import Path

import pytest

from labsim.base.payload import Fill, join, tobytes
from labsim.base.units import NS_PER_MS
from labsim.scenario import oracle, tape
from labsim.scenario.cluster import Cluster
from labsim.scenario.record import NEVER, Call, Note


def call(number: int, name: str = "write", **more: object) -> Call:
    made = Call(
        client="c0", number=number, process=1, uid=0, name=name, args=["/a"], begun_ns=number
    )
    for key, value in more.items():
        setattr(made, key, value)
    return made


def test_a_call_is_kept_as_it_began_and_as_it_ended(tmp_path: Path) -> None:
    path = str(tmp_path / "tape")
    writer = tape.Tape(path)
    first, second = call(1, data=join((b"ab", Fill(5, 7, 2)))), call(2)
    writer.begun(first)
    writer.begun(second)
    first.ended_ns = 9
    writer.ended(first)
    writer.noted(Note(node="c0", what="evicted", time_ns=10))
    log = tape.read(path)
    assert [(one.number, one.ended_ns) for one in log.calls] == [(1, 9), (2, NEVER)]
    assert tobytes(log.calls[0].data) == b"ab" + Fill(5, 7, 2).tobytes()
    assert [note.what for note in log.notes] == ["evicted"]


def test_what_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    writer = tape.Tape(str(path))
    writer.begun(call(1, args=["/\udcff"]))
    whole = path.stat().st_size
    writer.begun(call(2))
    data = path.read_bytes()
    for end in range(whole, len(data)):
        path.write_bytes(data[:end])
        assert [one.number for one in tape.read(str(path)).calls] == [1]
    assert tape.read(str(tmp_path / "none")).calls == []


@pytest.mark.live
def test_what_a_killed_client_did_is_known() -> None:
    with Cluster(clients=2, runtime="live", record=True) as cluster:
        victim, other = cluster.client(0), cluster.client(1)
        victim.run("echo one > a")
        cluster.node("oss0").fault(0x20E, reaction="hold")  # OST_BRW_WRITE_BULK
        doing = victim.command("dd if=/dev/zero of=b bs=4096 count=1 conv=fsync")
        cluster.run(cluster.env.timeout(300 * NS_PER_MS))
        cluster.run(victim.kill())
        assert doing.value.status == 137
        cluster.run(victim.start())
        victim.run("stat a")
        other.run("ls")
        cluster.collect()
        assert cluster.archive is not None
        calls = [one for one in cluster.archive.calls if one.client == "c0"]
        ended = [one.name for one in calls if one.ended_ns != NEVER]
        assert ended == ["open", "write", "close", "open", "write", "stat"]
        assert [one.name for one in calls if one.ended_ns == NEVER] == ["fsync"]
        assert [note.node for note in cluster.archive.told() if note.what == "killed"] == ["c0"]
        assert oracle.posix(cluster.archive) == []
