"""The reference model: which histories it explains, and what it says of those that it does not."""

from __future__ import annotations

import errno
import os
import stat as st
from typing import Any

import pytest

from labsim.base.payload import Fill
from labsim.scenario import oracle, posix_content, posix_model
from labsim.scenario.posix_content import Content, Source
from labsim.scenario.record import NEVER, Archive, Call, Log, Note

RW = os.O_RDWR
SECOND = 1_000_000_000


class History:
    """Calls as they are told: each takes the time from `begun` to `ended`, in seconds."""

    def __init__(self) -> None:
        self.archive = Archive()
        self.now = 0

    def call(self, name: str, *args: Any, on: str = "c0", at: Any = None, **fields: Any) -> Call:
        begun, ended = at if at is not None else (self.now + 1, self.now + 2)
        self.now = max(self.now, begun, ended)
        call = Call(
            client=on, number=len(self.archive.calls) + 1, process=1, uid=0, name=name,
            args=list(args), begun_ns=begun * SECOND,
            ended_ns=ended * SECOND if ended != NEVER else NEVER, **fields,
        )  # fmt: skip
        self.archive.add(Log([call], []))
        return call

    def note(self, what: str, at: int, node: str = "c0", target: str = "lustre-OST0000") -> None:
        note = Note(node=node, what=what, time_ns=at * SECOND, target=target)
        self.archive.add(Log([], [note]))

    def open(self, path: str, flags: int = RW | os.O_CREAT, **fields: Any) -> None:
        fields = {"file": 1, "fid": "[0x1:0x1:0x0]"} | fields
        self.call("open", path, flags, 0o666, **fields)

    def write(self, data: bytes, pos: int = 0, **fields: Any) -> None:
        fields = {"file": 1, "fid": "[0x1:0x1:0x0]"} | fields
        self.call("write", True, RW, data=data, at=fields.pop("when", None), end=0, value=len(data),
                  **fields).at = pos  # fmt: skip

    def read(self, data: bytes, length: int = 4, pos: int = 0, **fields: Any) -> None:
        fields = {"file": 1, "fid": "[0x1:0x1:0x0]"} | fields
        self.call("read", True, RW, length, data=data, at=fields.pop("when", None),
                  **fields).at = pos  # fmt: skip

    @property
    def wrong(self) -> str:
        """What the model says of the first call that it does not explain."""
        found = posix_model.check(posix_model.merged(self.archive.calls), self.archive.told())
        return "" if found is None else f"{found.call.name}: {found.expected}"


def attributes(kind: int = st.S_IFREG, nlink: int = 1, size: int = 0) -> list[int]:
    return [kind | 0o644, nlink, 0, 0, size]


# ---- one after the other


def test_what_was_written_is_read() -> None:
    h = History()
    h.open("/f")
    h.write(b"abcd")
    h.read(b"abcd")
    h.write(b"xy", 1)
    h.read(b"axyd")
    h.read(b"", 4, 9)
    assert h.wrong == ""
    h.read(b"abyd")
    assert h.wrong == "read: byte 1 reads 6279.., expected write #4"


def test_a_short_read_tells_the_size() -> None:
    h = History()
    h.open("/f")
    h.write(b"abcd")
    h.read(b"abc")
    assert h.wrong == "read: 3 bytes read at 0, expected 4"


def test_names_and_errors() -> None:
    h = History()
    h.call("mkdir", "/d", 0o777)
    h.call("mkdir", "/d", 0o777, errno=errno.EEXIST)
    h.open("/d/f")
    h.call("rmdir", "/d", errno=errno.ENOTEMPTY)
    h.call("rename", "/d/f", "/d/g")
    h.call("stat", "/d/f", errno=errno.ENOENT)
    h.call("stat", "/d/g", value=attributes(), fid="[0x1:0x1:0x0]")
    h.call("link", "/d/g", "/h")
    h.call("stat", "/h", value=attributes(nlink=2), fid="[0x1:0x1:0x0]")
    h.call("readdir", "/d", value=[["g", st.S_IFREG]])
    h.call("unlink", "/d/g")
    h.call("rmdir", "/d")
    h.call("unlink", "/h/x", errno=errno.ENOTDIR)
    assert h.wrong == ""


@pytest.mark.parametrize(
    ("name", "args", "fields", "said"),
    [
        ("unlink", ["/f"], {"errno": errno.ENOENT}, "expected success, 'f' can go"),
        ("unlink", ["/d"], {}, "expected EISDIR"),
        ("unlink", ["/g"], {}, "expected ENOENT"),
        ("mkdir", ["/f", 0o777], {}, "expected EEXIST"),
        ("rename", ["/f", "/d"], {}, "expected EISDIR"),
        ("rename", ["/f", "/g"], {"errno": errno.ENOENT}, "expected success"),
        ("stat", ["/f"], {"fid": "[0x9:0x9:0x0]", "value": attributes(size=4)},
         "expected [0x1:0x1:0x0], is [0x9:0x9:0x0]"),
        ("stat", ["/f"], {"fid": "[0x1:0x1:0x0]", "value": attributes(nlink=2, size=4)},
         "nlink 2, expected 1"),
        ("stat", ["/f"], {"fid": "[0x1:0x1:0x0]", "value": attributes(size=3)},
         "size 3, expected 4"),
        ("readdir", ["/"], {"value": [["f", 0]]}, "expected 'd' in it"),
        ("readdir", ["/"], {"value": [["d", 0], ["f", 0], ["x", 0]]},
         "'x' is in it, expected not to be"),
        ("getxattr", ["/f", "user.a"], {"value": b"2"}, "expected b'1', got b'2'"),
        ("removexattr", ["/f", "user.b"], {}, "expected ENODATA"),
        ("open", ["/f", RW | os.O_CREAT | os.O_EXCL], {"file": 2}, "expected EEXIST"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_told(name: str, args: Any, fields: Any, said: str) -> None:
    h = History()
    h.open("/f")
    h.write(b"abcd")
    h.call("mkdir", "/d", 0o777)
    h.call("setxattr", "/f", "user.a", b"1")
    h.call(name, *args, **fields)
    assert h.wrong == f"{name}: {said}"


def test_what_is_not_about_names_is_taken_as_it_is() -> None:
    h = History()
    h.call("unlink", "/f", errno=errno.EACCES)
    h.call("setxattr", "/f", "trusted.x", b"1", errno=errno.EPERM)
    assert h.wrong == ""


# ---- at once


def test_concurrent_calls_may_be_in_any_order() -> None:
    h = History()
    h.open("/f")
    h.open("/f", file=2, on="c1")
    h.write(b"aaaa")
    h.write(b"bbbb", when=(10, 20), on="c1", file=2)
    h.read(b"bbbb", when=(11, 12))
    h.read(b"bbbb", when=(13, 14))
    h.read(b"bbbb", when=(21, 22))
    assert h.wrong == ""
    h.read(b"aaaa", when=(15, 16))
    assert h.wrong == "read: byte 0 reads 61616161.., expected write #4"


def test_a_read_may_come_before_a_write_that_ended_earlier() -> None:
    h = History()
    h.open("/f")
    h.open("/f", file=2, on="c1")
    h.write(b"aaaa")
    h.read(b"aaaa", when=(10, 20))
    h.write(b"bbbb", when=(11, 12), on="c1", file=2)
    assert h.wrong == ""


def test_a_read_that_sees_half_a_write_is_wrong() -> None:
    h = History()
    h.open("/f")
    h.open("/f", file=2, on="c1")
    h.write(b"aaaa")
    h.write(b"bbbb", when=(10, 20), on="c1", file=2)
    h.read(b"aabb", when=(11, 12))
    assert h.wrong.startswith("read: byte 2 reads 6262")


def test_only_one_of_two_makes_a_directory() -> None:
    h = History()
    h.call("mkdir", "/d", 0o777, at=(1, 5))
    h.call("mkdir", "/d", 0o777, at=(2, 4), on="c1", errno=errno.EEXIST)
    assert h.wrong == ""
    h.call("mkdir", "/e", 0o777, at=(6, 9))
    h.call("mkdir", "/e", 0o777, at=(6, 9), on="c1")
    assert h.wrong == "mkdir: expected EEXIST"


def test_a_name_may_change_between_the_look_and_the_act() -> None:
    h = History()
    h.open("/f")
    h.call("chmod", "/f", 0o600, at=(10, 20))
    h.call("rename", "/f", "/g", at=(11, 12), on="c1")
    h.call("stat", "/g", value=attributes(), fid="[0x1:0x1:0x0]", at=(13, 14), on="c1")
    h.call("stat", "/g", value=[st.S_IFREG | 0o600, 1, 0, 0, 0], fid="[0x1:0x1:0x0]")
    assert h.wrong == ""


def test_a_stat_asks_the_mdt_first_and_the_osts_then() -> None:
    h = History()
    h.open("/f")
    h.call("stat", "/f", value=attributes(size=4), fid="[0x1:0x1:0x0]", at=(10, 20), on="c1")
    h.call("link", "/f", "/g", at=(11, 12))
    h.write(b"aaaa", when=(13, 14))
    assert h.wrong == ""
    h.call("stat", "/f", value=attributes(size=4), fid="[0x1:0x1:0x0]", at=(21, 22), on="c1")
    assert h.wrong == "stat: nlink 1, expected 2"


# ---- after failures


def test_a_call_that_failed_may_have_happened() -> None:
    for told in (errno.ENOENT, errno.EEXIST):
        h = History()
        h.call("mkdir", "/d", 0o777, errno=errno.EIO)
        h.call("open", "/d/f", RW, errno=errno.ENOENT, on="c1")
        if told == errno.EEXIST:
            h.call("mkdir", "/d", 0o777, errno=told)
        h.call("rmdir", "/d", errno=0 if told == errno.EEXIST else told)
        assert h.wrong == "", told


def test_a_write_that_failed_is_there_in_part_or_not_at_all() -> None:
    h = History()
    h.open("/f")
    page = posix_content.PAGE
    h.write(b"a" * 2 * page)
    h.write(b"b" * 2 * page, errno=errno.EIO)
    h.read(b"a" * page + b"b" * page, 2 * page)
    assert h.wrong == ""
    h.read(b"cccc")
    assert h.wrong == "read: byte 0 reads 63636363.., expected write #2"


def test_a_write_and_a_truncate_in_doubt_are_two_things() -> None:
    held = posix_content.write(Content(), 1, 0, 4, "c0", sure=False)
    held = posix_content.truncate(held, 1, "c0", SECOND, sure=False)
    held = posix_content.lose(held, posix_content.Loss("c0", since_ns=0))
    for data in (b"aaaa", b"a\0\0\0", b"\0\0\0\0"):
        assert not posix_content.read(held, 0, 4, data, {1: Source(0, b"aaaa")}, "c1", SECOND).wrong
    assert posix_content.read(held, 0, 4, b"aa\0\0", {1: Source(0, b"aaaa")}, "c1", SECOND).wrong


def test_what_an_evicted_client_had_not_written_back_may_be_lost() -> None:
    h = History()
    h.open("/f")
    h.open("/f", file=2, on="c1")
    h.write(b"aaaa")
    h.read(b"aaaa", file=2, on="c1")
    h.write(b"bbbb")
    h.note("evicts", h.now + 1)
    h.read(b"aaaa", file=2, on="c1", when=(h.now + 2, h.now + 3))
    assert h.wrong == ""
    h.read(b"bbbb", file=2, on="c1")
    assert h.wrong == "read: byte 0 reads 62626262.., expected write #3"


def test_what_was_synced_stays() -> None:
    h = History()
    h.open("/f")
    h.open("/f", file=2, on="c1")
    h.write(b"aaaa")
    h.call("fsync", file=1, fid="[0x1:0x1:0x0]")
    h.note("evicts", h.now + 1)
    h.read(b"", file=2, on="c1", when=(h.now + 2, h.now + 3))
    assert h.wrong == "read: 0 bytes read at 0, expected 4"


def test_an_evicted_client_is_blind_until_it_hears_of_it() -> None:
    h = History()
    h.open("/f")
    h.open("/f", file=2, on="c1")
    h.write(b"aaaa")
    h.call("fsync", file=1, fid="[0x1:0x1:0x0]")
    h.note("evicts", h.now + 1)
    h.write(b"cccc", file=2, on="c1", when=(h.now + 2, h.now + 3))
    h.read(b"aaaa")
    h.note("evicted", h.now + 1)
    assert h.wrong == ""
    h.read(b"aaaa", when=(h.now + 2, h.now + 3))
    assert h.wrong == "read: byte 0 reads 61616161.., expected write #5"


def power_lost(h: History, *, heard: int) -> None:
    """An OST lost its power, and a client that was not on its disk came back as a new one."""
    h.note("full", 0)
    h.note("power-off", h.now + 1, "oss0")
    h.note("evicted", heard)
    h.note("full", heard)


def test_others_see_what_a_client_lost_before_it_hears_of_it() -> None:
    h = History()
    h.open("/f")
    h.open("/f", file=2, on="c1")
    h.write(b"aaaa")
    h.note("full", 0, "c1")
    power_lost(h, heard=60)
    h.read(b"", file=2, on="c1", when=(12, 13))
    h.read(b"aaaa", when=(14, 15))
    assert h.wrong == ""
    h.read(b"aaaa", file=2, on="c1", when=(70, 71))
    assert h.wrong == "read: 4 bytes read at 0, expected 0"


def test_what_a_client_writes_after_it_was_lost_may_be_gone_before_it_hears_of_it() -> None:
    h = History()
    h.open("/f")
    h.open("/f", file=2, on="c1")
    h.note("full", 0, "c1")
    power_lost(h, heard=60)
    h.write(b"aaaa", when=(10, 11))
    h.read(b"", file=2, on="c1", when=(12, 13))
    assert h.wrong == ""


@pytest.mark.parametrize("what", ["write", "ftruncate"])
def test_what_was_on_its_way_to_disk_goes_with_the_power_alone(what: str) -> None:
    for power in (True, False):
        h = History()
        h.open("/f")
        h.open("/f", file=2, on="c1")
        h.write(b"aaaa")
        h.call("fsync", file=1, fid="[0x1:0x1:0x0]")
        if what == "write":
            h.write(b"bbbb")
        else:
            h.call("ftruncate", 2, file=1, fid="[0x1:0x1:0x0]")
        h.read(b"bbbb" if what == "write" else b"aa", file=2, on="c1")
        if power:
            power_lost(h, heard=60)
        else:
            h.note("evicts", h.now + 1)
        h.read(b"aaaa", file=2, on="c1", when=(70, 71))
        assert bool(h.wrong) is not power


def test_what_was_synced_stays_though_power_and_client_go() -> None:
    h = History()
    h.open("/f")
    h.open("/f", file=2, on="c1")
    h.write(b"aaaa")
    h.call("fsync", file=1, fid="[0x1:0x1:0x0]")
    power_lost(h, heard=60)
    h.read(b"", file=2, on="c1", when=(70, 71))
    assert h.wrong == "read: 0 bytes read at 0, expected 4"


def test_what_a_lost_client_did_may_go_with_a_server() -> None:
    h = History()
    mdt = "lustre-MDT0000"
    h.call("mkdir", "/d", 0o777)
    h.note("power-off", h.now + 1, "mds0", mdt)
    h.note("evicted", h.now + 60, "c0", mdt)
    h.call("rmdir", "/d", errno=errno.ENOENT, at=(70, 71), on="c1")
    assert h.wrong == ""


def test_a_directory_that_may_be_lost_is_still_the_way_to_what_is_in_it() -> None:
    h = History()
    h.call("mkdir", "/d", 0o777)
    h.open("/d/a", file=1)
    h.open("/d/b", file=2, fid="[0x1:0x2:0x0]", on="c1")
    h.note("power-off", h.now + 1, "mds0", "lustre-MDT0000")
    h.note("evicts", h.now + 300, "c0", "lustre-MDT0000")
    h.note("evicted", h.now + 301, "c0", "lustre-MDT0000")
    h.now += 302
    h.call("stat", "/d/a", errno=errno.ENOENT, on="c1")
    h.call("unlink", "/d/b", on="c1")
    h.call("open", "/d/c", RW | os.O_CREAT, 0o666, file=3, fid="[0x1:0x3:0x0]", on="c1")
    h.call("rename", "/d/c", "/d/a", on="c1")
    assert h.wrong == ""
    h.call("unlink", "/d/b", on="c1")
    assert h.wrong == "unlink: expected ENOENT"


@pytest.mark.parametrize(
    ("made_s", "full", "crash", "lost"),
    [
        (1, None, 0, False),  # on disk before the power went
        (15, None, 0, True),  # not on disk, and the client did not live to replay it
        (15, 30, 0, False),  # replayed, and on disk after another ten seconds
        (15, 30, 38, True),  # replayed, but the power went again
        (15, 30, 60, False),  # again, long after
        (15, 41, 44, True),  # again, right after the client had died
    ],
)
def test_what_a_killed_client_did_may_be_lost_with_its_server(
    made_s: int, full: int | None, crash: int, lost: bool
) -> None:
    h = History()
    h.call("mkdir", "/d", 0o777, at=(made_s, made_s + 1))
    mdt = "lustre-MDT0000"
    h.note("power-off", 20, "mds0", mdt)
    if full is not None:
        h.note("full", full, target=mdt)
    h.note("killed", 42, target="")
    if crash:
        h.note("power-off", crash, "mds0", mdt)
    h.now = 100
    h.call("stat", "/d", on="c1", errno=errno.ENOENT)
    assert (h.wrong == "") is lost


@pytest.mark.parametrize(("began", "wrong"), [(4, ""), (9, "stat: expected ENOENT")])
def test_a_stat_may_find_a_file_and_see_it_without_links_right_after(
    began: int, wrong: str
) -> None:
    h = History()
    h.open("/f", at=(1, 2))
    h.call("unlink", "/f", on="c1", at=(3, 8))
    value, fid = attributes(nlink=0), "[0x1:0x1:0x0]"
    h.call("stat", "/f", on="c2", at=(began, began + 2), value=value, fid=fid)
    assert h.wrong == wrong


@pytest.mark.parametrize("source", ["/d/f", "/f"])
def test_a_rename_of_a_name_that_may_be_lost_may_do_nothing(source: str) -> None:
    """Between two names of one file it leaves both."""
    h = History()
    target = {"/d/f": "/f", "/f": "/d/f"}[source]
    h.call("mkdir", "/d", 0o777, at=(1, 2), on="c1")
    h.open("/f", at=(3, 4), on="c1")
    h.call("link", "/f", "/d/f", at=(15, 16))
    h.note("power-off", 17, "mds0", "lustre-MDT0000")
    h.note("killed", 20, target="")
    h.call("rename", source, target, on="c1")
    stat = {"on": "c2", "value": attributes(nlink=2), "fid": "[0x1:0x1:0x0]"}
    h.call("stat", target, **stat)
    h.call("stat", source, **stat)
    assert h.wrong == ""


def test_a_name_that_may_be_lost_is_found_by_a_call_without_a_fid_first() -> None:
    h = History()
    h.open("/f", at=(15, 16))
    h.note("power-off", 17, "mds0", "lustre-MDT0000")
    h.note("killed", 20, target="")
    h.call("chmod", "/f", 0o600, on="c1")
    h.open("/f", RW, on="c1", file=2)
    h.write(b"abcd", on="c1", file=2)
    h.open("/f", RW, on="c2", file=2)
    h.read(b"abcd", on="c2", file=2)
    assert h.wrong == ""
    h.open("/f", RW, on="c2", file=3, fid="[0x1:0x2:0x0]")
    assert h.wrong == "open: expected [0x1:0x1:0x0], opened [0x1:0x2:0x0]"


def test_a_killed_client_may_have_done_what_it_did_not_end() -> None:
    for told in (0, errno.EEXIST):
        h = History()
        h.call("mkdir", "/d", 0o777, at=(1, NEVER))
        h.note("killed", 3)
        h.call("mkdir", "/d", 0o777, at=(4, 5), on="c1", errno=told)
        assert h.wrong == "", told


# ---- what is told


def test_a_story_has_the_calls_that_met() -> None:
    h = History()
    h.open("/f")
    h.write(b"aaaa")
    h.call("mkdir", "/d", 0o777)
    h.read(b"bbbb")
    (story,) = oracle.posix(h.archive)
    head, *rest = story.splitlines()
    assert head.startswith("posix: #4 7s c0 read file 1 [0x1:0x1:0x0] 4 bytes of 4 at 0 -> ok")
    assert head.endswith("byte 0 reads 62626262.., expected write #2")
    assert [line.split()[0] for line in rest] == ["#1", "#2"]


def test_what_fails_has_a_cause() -> None:
    h = History()
    h.call("mkdir", "/d", 0o777, errno=errno.EIO)
    (said,) = oracle.causes(h.archive)
    assert said.endswith("-> EIO after 1s: its client was not evicted")
    h.note("evicted", 1)
    assert oracle.causes(h.archive) == []


def test_patterns_are_compared_without_making_them() -> None:
    sources = {3: Source(100, Fill(1 << 40, 7))}
    held = posix_content.write(Content(), 3, 100, 100 + (1 << 40), "c0")
    seen = posix_content.read(held, 100, 1 << 40, Fill(1 << 40, 7), sources, "c0", SECOND)
    assert seen.wrong == ""
    assert seen.content == held


def test_ranges_are_cut_and_joined() -> None:
    held = posix_content.write(Content(), 1, 0, 10, "c0")
    held = posix_content.write(held, 2, 4, 6, "c1")
    assert [(one.start, one.end, one.shows) for one in held.ranges] == [
        (0, 4, (1,)), (4, 6, (2,)), (6, 10, (1,)),
    ]  # fmt: skip
    held = posix_content.truncate(held, 5, "c0", SECOND)
    assert held.sizes == (5,)
    assert [(one.start, one.end, one.shows) for one in held.ranges] == [
        (0, 4, (1,)), (4, 5, (2,)), (5, 6, (0,)), (6, 10, (0,)),
    ]  # fmt: skip
    held = posix_content.keep(held, "c0")
    assert [(one.start, one.end) for one in held.ranges] == [(0, 4), (4, 5)]
