"""What tshark, which knows Lustre by itself, reads in a capture; and where it is wrong."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from labsim.net import pcap_read
from labsim.net.lnet import PUT
from labsim.net.pcap_read import Seen
from labsim.wire import msg_flags

TSHARK = shutil.which("tshark")
needs_tshark = pytest.mark.skipif(TSHARK is None, reason="there is no tshark on this machine")

FATAL = ("Malformed Packet (Exception occurred)", "Mismatched", "BAD OPCODE", "UNKNOWN")
"""What no frame may show."""
BENIGN = "Capture:"
"""Bytes that the dissector leaves over: its way to say that it knows less than was sent."""
EXCEPTION = FATAL[0]

FIELDS = (
    "frame.number", "ip.src", "ip.dst", "lnet.msg_type", "lnet.msg_dst_match_bits",
    "lustre.ptlrpc_body.pb_type", "lustre.ptlrpc_body.pb_opc", "_ws.col.Info",
    "_ws.expert.message",
)  # fmt: skip


class Line(NamedTuple):
    """One frame in which an LNet message ends, in the dissector's words."""

    number: int
    source: str
    target: str
    kind: str
    match: str
    type: str
    opcode: str
    info: str
    expert: str


class Defect(NamedTuple):
    """Something the dissector of Wireshark 4.0 gets wrong about a message that is right."""

    what: str
    """A format, then request or reply; or the portal of what is no lustre_msg."""
    shows: str
    reason: str


MISMATCH = FATAL[1]
_PORTAL = "the Lustre dissector does not get this portal"
_OLD = "of a format that grew after the dissector was written: the rest is left over"

DEFECTS = (
    Defect("portal 8", BENIGN, f"an OST's bulk data: {_PORTAL}"),
    Defect("portal 14", BENIGN, f"directory pages: {_PORTAL}"),
    Defect("portal 33", BENIGN, f"bulk data of the MGS: {_PORTAL}"),
    Defect("OUT_UPDATE request", BENIGN, _PORTAL),
    Defect("OUT_UPDATE reply", MISMATCH, "it did not see the request, which is on portal 24"),
    Defect("LDLM_GL_CALLBACK reply", BENIGN, "taken for a barrier's lvb of 16 bytes; 40 are left"),
    Defect("LDLM_GL_CALLBACK_DESC reply", BENIGN, "the same"),
    Defect("LDLM_INTENT_BASIC reply", EXCEPTION, "it reads an mdt_body where an lvb is"),
    Defect("OBD_IDX_READ request", BENIGN, _OLD),
    Defect("OBD_IDX_READ reply", BENIGN, _OLD),
    Defect("MDS_STATFS_NEW request", BENIGN, "it knows no body in a MDS_STATFS"),
    Defect("MDS_GET_INFO request", BENIGN, "it does not skip the padding behind the length"),
    Defect("MDS_CLOSE_INTENT request", BENIGN, "it does not know the array at the end"),
    Defect("MDS_REINT_MIGRATE request", BENIGN, "it does not know the layout at the end"),
    Defect("MDS_REINT_RESYNC request", EXCEPTION, "it takes the lock request for a capability"),
    Defect("MGS_SET_INFO request", "length 1024", "it takes the parameter's text for a number"),
    Defect("MGS_SET_INFO reply", "length 1024", "the same"),
    Defect(
        "LLOG_ORIGIN_HANDLE_NEXT_BLOCK reply",
        BENIGN,
        "it reads the records, not the padding",
    ),
    Defect(
        "LLOG_ORIGIN_HANDLE_NEXT_BLOCK reply",
        "Bad Parse Length (opc:274726912",
        "a record that fills a chunk (LLOG_PAD_MAGIC): it reads head and tail, not what is between",
    ),
    Defect("OST_BRW_READ request", BENIGN, "it knows no data in a message (short I/O)"),
    Defect("OST_BRW_READ reply", BENIGN, "the same"),
    Defect("OST_BRW_WRITE request", BENIGN, "the same"),
    Defect("OST_SET_GRANT_INFO reply", BENIGN, "it knows no body in this reply"),
    Defect("OST_GET_INFO_LAST_FID request", BENIGN, "it expects no FID behind the key"),
    Defect("OST_GET_INFO_LAST_FID reply", "Trailing stray", "it takes the FID for a text"),
)
"""The dissector's defects, one by one; whatever else it complains of is a mistake of ours."""


def run(path: Path, *arguments: str, every: bool = False) -> str:
    """What tshark prints about the LNet messages of a capture, or about every frame."""
    assert TSHARK is not None
    command = [TSHARK, "-r", str(path), "-Y", "frame" if every else "lnet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines(path: Path) -> list[Line]:
    """All LNet messages of a capture."""
    wanted = [word for field in FIELDS for word in ("-e", field)]
    text = run(path, "-T", "fields", *wanted)
    rows = (line.split("\t") for line in text.splitlines())
    return [Line(int(number), *rest) for number, *rest in rows]


def shown(path: Path) -> dict[int, list[str]]:
    """By frame, the lines of the full dissection that hold a word that no frame may show."""
    found: dict[int, list[str]] = {}
    number = 0
    for line in run(path, "-V").splitlines():
        if line.startswith("Frame "):
            number = int(line.split()[1].rstrip(":"))
        if any(word in line for word in FATAL):
            found.setdefault(number, []).append(line.strip())
    return found


def name_of(seen: Seen) -> str:
    """A message in the words of the table of defects."""
    if seen.message is None:
        return f"portal {seen.packet.portal}" if seen.packet.kind == PUT else "no PUT"
    return f"{seen.message.fmt.name} {'request' if seen.message.request else 'reply'}"


def complaints(path: Path) -> Iterator[tuple[int, str, str]]:
    """(frame, what it holds, what tshark says of it) for all that it complains of."""
    seen = list(pcap_read.read(str(path)))
    told = lines(path)
    assert len(seen) == len(told), "tshark sees other messages than we do"
    words = shown(path)
    for ours, theirs in zip(seen, told, strict=True):
        if ours.error:
            yield theirs.number, name_of(ours), f"we cannot read it: {ours.error}"
        texts = [theirs.expert] if theirs.expert else []
        for text in texts + words.pop(theirs.number, []):
            yield theirs.number, name_of(ours), text
    for number, texts in words.items():
        yield number, "", " ".join(texts)


def explanation(what: str, text: str) -> Defect | None:
    """The known defect that a complaint comes from."""
    for one in DEFECTS:
        if what == one.what and one.shows in text:
            return one
    return None


def unexplained(path: Path) -> list[str]:
    """The complaints that no known defect explains."""
    return [
        f"frame {number}, {what}: {text}"
        for number, what, text in complaints(path)
        if explanation(what, text) is None
    ]


class Rpc(NamedTuple):
    """A request or a reply on its way."""

    source: str
    target: str
    request: bool
    opcode: int
    xid: int


def rpcs(path: Path) -> list[Rpc]:
    """The requests and replies of a capture, as tshark sees them."""
    return [
        Rpc(
            line.source,
            line.target,
            int(line.type) == msg_flags.PTL_RPC_MSG_REQUEST,
            int(line.opcode),
            int(line.match, 0),
        )
        for line in lines(path)
        if line.opcode
    ]


def oddities(path: Path) -> set[str]:
    """What is wrong with the frames' checksums, and what TCP's analysis has found."""
    fields = ("ip.checksum.status", "tcp.checksum.status", "tcp.analysis.flags")
    checks = ["-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-T", "fields"]
    checks += [word for field in fields for word in ("-e", field)]
    return set(run(path, *checks, every=True).splitlines()) - {"1\t1\t"}
