"""Captures: what the writer makes is what TCP, socklnd and the reader take it for."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest

from labsim.base.errors import InputError, ProtocolError
from labsim.base.ids import Nid
from labsim.base.payload import Chain, Fill, tobytes
from labsim.net import frame, pcap_read, wire_log
from labsim.net.capture import Capture
from labsim.net.conversations import Conversations
from labsim.net.lnd_sim import Fabric
from labsim.net.lnet import ACK, GET, LNET_MTU, PUT, REPLY, Lnet, Packet
from labsim.net.pcap import ACK as ACKED
from labsim.net.pcap import FIN, MSS, PORT, RECORD, RST, SYN, PcapFile
from labsim.net.wire_log import Log, merge
from labsim.runtime.sim import environment
from labsim.scenario.cluster import Cluster

A, B = Nid.parse("10.0.0.1@tcp"), Nid.parse("10.0.0.2@tcp")
FRAMES = {
    name: bytes.fromhex(text)
    for name, text in json.loads(
        (Path(__file__).parent.parent / "wire" / "golden_frames.json").read_text()
    ).items()
}


def put(payload, src=A, dst=B, match=1):
    return Packet(PUT, src, dst, 8, match, 0, payload, len(payload))


def captured(path, packets, arrive=True):
    """A capture of these packets, a microsecond apart."""
    out = PcapFile(str(path))
    conversations = Conversations(out)
    for number, packet in enumerate(packets):
        conversations.sent(number * 1000, packet, *frame.encode(packet))
        if arrive:
            conversations.arrived(number * 1000 + 500, packet)
    out.close()
    return path


def segments(path):
    with open(path, "rb") as file:
        return list(pcap_read.segments(file))


def packets(path):
    with open(path, "rb") as file:
        return [packet for _, packet in pcap_read.packets(file)]


def plain(packet):
    """A packet as the wire shows it: ACK and REPLY tell less."""
    if packet.kind in (ACK, REPLY):
        packet = packet._replace(portal=0, match=packet.match if packet.kind == ACK else 0)
    return packet._replace(payload=tobytes(packet.payload))


SIZES = [0, 1, 3, 4, 927, 928, MSS - 96, MSS - 95, MSS - 93, MSS, 2 * MSS - 94, 70_001, LNET_MTU]


def some_packets():
    made = [put(Fill(size, seed=size), match=size) for size in SIZES]
    made += [put(random.Random(1).randbytes(5000), B, A), put(Chain((b"x" * 9, Fill(900, 2))))]
    made += [
        Packet(GET, B, A, 8, 7, 0, b"", 4096, 0, 5 << 64 | 9),
        Packet(REPLY, A, B, 8, 7, 0, Fill(4096, 1), 4096, 0, 5 << 64 | 9),
        Packet(ACK, B, A, 8, 7, 0, b"", 17, 0, 3),
    ]
    return made


def test_what_is_written_is_read_again(tmp_path):
    sent = some_packets()
    assert packets(captured(tmp_path / "c", sent)) == [plain(packet) for packet in sent]


def test_every_message_begins_a_segment_and_none_is_too_short(tmp_path):
    seen = [s for s in segments(captured(tmp_path / "c", some_packets())) if s.data]
    assert max(len(s.data) for s in seen) == MSS
    assert min(len(s.data) for s in seen) >= 4
    begins = [s for s in seen if s.data[:4] == b"\xc1\0\0\0"]
    assert len(begins) == len(some_packets())


def test_large_bulk_data_is_told_when_its_pages_are_not_needed(tmp_path):
    """A cookie asks for it in the frame, and a NOOP on CONTROL brings it back."""
    said = [
        put(Fill(1 << 14, 1), match=1), put(Fill(1 << 14, 1), match=2), put(Fill(16383, 1)),
        put(Fill(1 << 14, 1))._replace(portal=28), put(Fill(1 << 14, 1), B, A, 3),
        Packet(GET, B, A, 8, 7, 0, b"", 1 << 14, 0, 9),
        Packet(REPLY, A, B, 8, 7, 0, Fill(1 << 14, 1), 1 << 14, 0, 9),
    ]  # fmt: skip
    seen = [s for s in segments(captured(tmp_path / "c", said)) if s.data]
    cookies = [int.from_bytes(s.data[8:16], "little") for s in seen if s.data[:1] == b"\xc1"]
    assert cookies == [2, 3, 0, 0, 2, 0, 4]
    noops = [s for s in seen if s.data[:4] == b"\xc0\0\0\0"]
    assert [s.data[4:] for s in noops] == [
        bytes(12) + bytes([cookie]) + bytes(7) for cookie in (2, 3, 2, 4)
    ]  # fmt: skip
    assert [s.source[0] for s in noops] == [nid & 0xFFFFFFFF for nid in (B, B, A, B)]
    assert {1023, PORT} == {port for s in noops for port in (s.source[1], s.target[1])}
    lost = captured(tmp_path / "d", said, arrive=False)
    assert not [s for s in segments(lost) if s.data[:1] == b"\xc0"]
    assert packets(tmp_path / "c") == packets(tmp_path / "d") == [plain(one) for one in said]


def test_a_connection_opens_as_socklnd_opens_it(tmp_path):
    seen = segments(captured(tmp_path / "c", [put(b"x" * 500)], arrive=False))
    actives = sorted({s.source for s in seen if s.flags == SYN}, reverse=True)
    assert actives == [(A & 0xFFFFFFFF, port) for port in (1023, 1022, 1021)]
    for kind, active in zip((1, 2, 3), actives, strict=True):
        ours = [s for s in seen if active in (s.source, s.target)]
        assert [s.flags for s in ours[:3]] == [SYN, SYN | ACKED, ACKED]
        request, hello, answer = [s.data for s in ours if len(s.data) in (16, 56)]
        assert request == FRAMES["acceptor request"][:8] + int(B).to_bytes(8, "little")
        assert hello[:8] == answer[:8] == FRAMES["hello of the active side"][:8]
        assert hello[48:] == kind.to_bytes(4, "little") + bytes(4)
        assert answer[48:] == (1, 3, 2)[kind - 1].to_bytes(4, "little") + bytes(4)
    assert all(PORT in (s.source[1], s.target[1]) for s in seen)


def test_greetings_are_reproduced_to_the_byte(tmp_path):
    active, passive = Nid.parse("192.168.1.10@tcp"), Nid.parse("192.168.1.20@tcp")
    out = PcapFile(str(tmp_path / "c"))
    conversations = Conversations(out)
    for nid in (active, passive):
        conversations.powered_on(nid, 0x1122334455667788)
    packet = put(b"data", active, passive)
    conversations.sent(0, packet, *frame.encode(packet))
    out.close()
    said = [s.data for s in segments(tmp_path / "c") if s.data][:3]
    names = ("acceptor request", "hello of the active side", "hello of the passive side")
    assert said == [FRAMES[name] for name in names]


@pytest.mark.parametrize("size", [927, 928])
@pytest.mark.parametrize("way", [(A, B), (B, A)])
def test_large_messages_take_the_senders_bulk_out(tmp_path, size, way):
    first = put(b"first")
    seen = segments(captured(tmp_path / "c", [first, put(bytes(size), *way)]))
    message = [s for s in seen if s.data[:4] == b"\xc1\0\0\0"][-1]
    port = min(message.source[1], 1023) if way == (A, B) else message.target[1]
    assert port == (1023 if size == 927 else 1021 if way == (A, B) else 1022)


def test_numbers_and_acknowledgements_fit(tmp_path):
    expected: dict = {}
    for s in segments(captured(tmp_path / "c", some_packets())):
        if not s.flags & SYN:
            assert s.seq == expected[s.source, s.target]
        expected[s.source, s.target] = s.seq + len(s.data) + bool(s.flags & SYN) & 0xFFFFFFFF


def test_a_node_that_comes_back_connects_anew(tmp_path):
    out = PcapFile(str(tmp_path / "c"))
    conversations = Conversations(out)
    for time_ns in (1, 2):
        conversations.powered_on(B, time_ns)
        conversations.sent(time_ns, put(b"data"), *frame.encode(put(b"data")))
    out.close()
    seen = segments(tmp_path / "c")
    ports = [s.source[1] for s in seen if s.flags == SYN]
    assert ports == [1023, 1022, 1021, 1020, 1019, 1018]
    assert packets(tmp_path / "c") == [put(b"data")] * 2
    resets = [s for s in seen if s.flags & RST]
    assert [s.target[1] for s in resets] == [1023, 1022, 1021], "each connection, once"
    before = seen[seen.index(resets[0]) - 1]
    assert (before.source, before.flags) == (resets[0].target, FIN | ACKED), "its peer closes"
    assert min(map(seen.index, resets)) > max(seen.index(s) for s in seen if s.flags & SYN)


def shuffled(path, change):
    """The capture with its records in another order or number."""
    raw = path.read_bytes()
    head, at, records = raw[:24], 24, []
    while at < len(raw):
        size = RECORD.unpack_from(raw, at)[2]
        records.append(raw[at : at + 16 + size])
        at += 16 + size
    path.write_bytes(head + b"".join(change(records)))
    return path


def test_a_reader_puts_segments_in_order_and_takes_each_once(tmp_path):
    sent = [put(random.Random(n).randbytes(20_000), match=n) for n in range(5)]
    draw = random.Random(7)

    def change(records):
        records = records[:21] + [one for one in records[21:] for _ in range(draw.choice((1, 2)))]
        for at in range(21, len(records) - 4, 4):
            part = records[at : at + 4]
            draw.shuffle(part)
            records[at : at + 4] = part
        return records

    path = shuffled(captured(tmp_path / "c", sent, arrive=False), change)
    assert packets(path) == sent


def test_a_capture_that_begins_in_the_middle_is_read_from_there(tmp_path):
    sent = [put(bytes([n]) * 5000, match=n) for n in range(3)]
    path = shuffled(captured(tmp_path / "c", sent, arrive=False), lambda records: records[25:])
    assert packets(path) == sent[1:]


def test_a_capture_that_was_cut_off_just_ends(tmp_path):
    path = captured(tmp_path / "c", some_packets()[:6])
    raw, whole = path.read_bytes(), packets(path)
    for size in range(24, len(raw), 97):
        path.write_bytes(raw[:size])
        seen = packets(path)
        assert seen == whole[: len(seen)]


def test_what_is_no_capture_is_refused(tmp_path):
    for raw in (b"", b"\x0a\x0d\x0d\x0a" + bytes(40), b"text" * 20):
        with pytest.raises(InputError):
            list(pcap_read.segments(io.BytesIO(raw)))
    with pytest.raises(InputError):
        list(pcap_read.read(str(tmp_path / "nothing")))
    with pytest.raises(InputError):
        PcapFile(str(tmp_path / "no" / "folder"))


def test_bytes_that_were_changed_never_end_in_an_exception_of_ours(tmp_path):
    raw = captured(tmp_path / "c", some_packets()[:8]).read_bytes()
    draw = random.Random(5)
    for _ in range(300):
        broken = bytearray(raw)
        for _ in range(draw.randrange(1, 6)):
            broken[draw.randrange(24, len(raw))] = draw.randrange(256)
        try:
            for _ in pcap_read.packets(io.BytesIO(bytes(broken))):
                pass
        except ProtocolError as error:
            assert "frame" in str(error)


# ---- taps


def test_a_tap_sees_both_ways_once(tmp_path):
    env = environment()
    fabric = Fabric(env)
    path = tmp_path / "c"
    capture = Capture(str(path), lambda: env.now, 1_000_000_000)
    lnets = [Lnet(A), Lnet(B)]
    for lnet in lnets:
        fabric.attach(lnet)
        capture.watch(lnet)
    lnets[1].serve(8, lambda packet: lnets[1].put(A, 10, 1, b"answer"))
    lnets[0].put(B, 8, 1, b"question")
    lnets[0].put(A, 8, 1, b"to itself")
    env.run()
    capture.close()
    seen = packets(path)
    assert [tobytes(packet.payload) for packet in seen] == [b"question", b"answer"]
    bare = [s for s in segments(path)[21:] if not s.data]
    assert [s.flags for s in bare] == [ACKED, ACKED]
    assert bare[0].time_ns > 1_000_000_000


def logged(path, sent, lnet, now):
    log = Log(str(path), now)
    log.watch(lnet)
    for packet in sent:
        for tap in lnet.taps:
            tap(packet)
        assert log.encode(packet) == frame.encode(packet)
        log.flush()
    log.close()


def test_logs_of_nodes_become_one_capture_in_the_order_of_time(tmp_path):
    times = iter(range(0, 10**9, 1000))
    big = random.Random(3).randbytes(50_000)
    sent = [put(big, match=n) for n in range(4)] + some_packets()
    ours = [packet for packet in sent if packet.src == A]
    theirs = [packet for packet in sent if packet.src == B]
    logged(tmp_path / "a", ours, Lnet(A), lambda: next(times))
    logged(tmp_path / "b", ours + theirs, Lnet(B), lambda: next(times))
    assert (tmp_path / "a.data").stat().st_size < 60_000, "what is sent again is not written again"
    out = PcapFile(str(tmp_path / "c"))
    merge([str(tmp_path / "b"), str(tmp_path / "a")], out, 0)
    out.close()
    assert packets(tmp_path / "c") == [plain(packet) for packet in ours + theirs]
    stamps = [s.time_ns for s in segments(tmp_path / "c")]
    assert stamps == sorted(stamps)


def test_the_log_of_a_node_that_was_killed_is_read_as_far_as_it_goes(tmp_path):
    sent = [put(random.Random(n).randbytes(20_000 * (n % 2) + 10), match=n) for n in range(4)]
    logged(tmp_path / "a", sent, Lnet(A), lambda: 0)
    for name in ("a", "a.data"):
        raw = (tmp_path / name).read_bytes()
        counts = []
        for size in [*range(0, min(len(raw), 41_000), 331), len(raw)]:
            (tmp_path / name).write_bytes(raw[:size])
            counts.append(len(list(wire_log.read(str(tmp_path / "a")))))
        assert counts == sorted(counts)
        assert (min(counts), max(counts)) == ((0, 5) if name == "a" else (3, 5))
        (tmp_path / name).write_bytes(raw)


def test_a_log_of_many_windows(tmp_path):
    sent = [put(random.Random(n).randbytes(n * 397 % 16_000), match=n) for n in range(400)]
    logged(tmp_path / "a", sent, Lnet(A), lambda: 0)
    assert (tmp_path / "a").stat().st_size > 3 * wire_log.WINDOW
    seen = [record.packet for record in wire_log.read(str(tmp_path / "a"))]
    assert seen[1:] == sent


def test_a_run_is_the_same_with_and_without_a_capture(tmp_path):
    hashes = []
    for pcap in (None, str(tmp_path / "c")):
        with Cluster(clients=2, oss=1, osts=2, pcap=pcap) as cluster:
            for command in ("touch f", "dd if=/dev/zero of=g bs=1M count=2", "ls -l"):
                for client in (0, 1):
                    assert cluster.client(client).run(command).status == 0
        hashes.append(cluster.hash)
    assert hashes[0] == hashes[1]
    seen = list(pcap_read.read(str(tmp_path / "c")))
    assert len(seen) > 50
    assert not [one for one in seen if one.error]
    for one in seen:
        if one.message is not None:
            assert one.message.encode() == one.packet.payload
