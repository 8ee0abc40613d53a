"""A capture file: Ethernet frames with nanosecond times, as tcpdump writes them.

Does not know LNet. Stands for the pcap format (magic a1b23c4d, Ethernet) and for what the network
stack of a host puts in front of TCP data: Ethernet, IPv4 and TCP headers with valid checksums.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from struct import Struct
from typing import IO

from labsim.base.errors import InputError
from labsim.base.units import NS_PER_MS, NS_PER_S

MAGIC_NS = 0xA1B23C4D
ETHERNET = 1
SNAPLEN = 1 << 18
FILE_HEADER = Struct("<IHHiIII")
"""Magic, version 2.4, time zone, accuracy, longest frame, link type."""
RECORD = Struct("<IIII")
"""Seconds, nanoseconds, bytes kept, bytes there were."""

PORT = 988
"""Where LNet's acceptor listens."""
MSS = 1448
"""Data of a full segment: 1500 bytes less the IP header and TCP's with its time stamps."""
SHORTEST = 4
"""Dissectors decide by four bytes what a segment is."""

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
WINDOW = 65_535
WINDOW_SHIFT = 9

_ETHERNET = Struct(">6s6sH")
_IP = Struct(">BBHHHBBH4s4s")
_TCP = Struct(">HHIIBBHHH")
_STAMPS = Struct(">HBBII")
_SYN_OPTIONS = Struct(">BBHBBBBIIBBBB")
_MASK = 0xFFFFFFFF


class PcapFile:
    """A capture file that is being written; InputError where it cannot be."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = create(path)
        self.frames = 0
        header = FILE_HEADER.pack(MAGIC_NS, 2, 4, 0, 0, SNAPLEN, ETHERNET)
        self._file.write(header)

    def write(self, time_ns: int, *parts: bytes | memoryview) -> None:
        """Add a frame that was seen `time_ns` after 1970."""
        self.frames += 1
        size = sum(map(len, parts))
        self._file.write(RECORD.pack(*divmod(time_ns, NS_PER_S), size, size))
        for part in parts:
            self._file.write(part)

    def close(self) -> None:
        """Write what is still buffered."""
        self._file.close()


def create(path: str) -> IO[bytes]:
    """A new file; InputError names why there is none."""
    try:
        return open(path, "wb", buffering=1 << 18)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", path) from None


class End:
    """One end of a TCP connection: its address, and how far it has sent and heard."""

    __slots__ = ("_flow", "_head", "_ident", "_mac", "ack", "address", "echo", "port", "seq")

    def __init__(self, address: int, port: int, first: int) -> None:
        self.address = address.to_bytes(4, "big")
        self.port = port
        self.seq = first
        """The sequence number of the next byte that it sends."""
        self.ack = 0
        """The next byte that it has not heard yet."""
        self.echo = 0
        """The last time stamp that it heard."""
        self._ident = first & 0xFFFF
        self._mac = b"\x02\x00" + self.address
        self._head = b""
        self._flow = 0

    def face(self, peer: End) -> None:
        """Note what is the same in all packets to `peer`."""
        self._head = _ETHERNET.pack(peer._mac, self._mac, 0x0800)
        self._flow = int.from_bytes(self.address + peer.address, "big")

    def packet(
        self, peer: End, time_ns: int, flags: int, data: bytes | memoryview = b""
    ) -> tuple[bytes, bytes | memoryview]:
        """The next packet to `peer`: all headers, and the data as it is; moves `seq` on."""
        stamp = time_ns // NS_PER_MS & _MASK
        if flags & SYN:
            options = _SYN_OPTIONS.pack(
                2, 4, MSS + 12, 4, 2, 8, 10, stamp, self.echo, 1, 3, 3, WINDOW_SHIFT
            )
        else:
            options = _STAMPS.pack(0x0101, 8, 10, stamp, self.echo)
        words = (_TCP.size + len(options)) // 4
        ack = self.ack if flags & ACK else 0
        length = words * 4 + len(data)
        total = self.port + peer.port + self.seq + ack + (words << 12 | flags) + WINDOW
        total += self._flow + 6 + length + _sum(options) + _sum(data)
        tcp = _TCP.pack(
            self.port, peer.port, self.seq, ack, words << 4, flags, WINDOW, -total % 65535, 0
        )
        self._ident = self._ident + 1 & 0xFFFF
        ip = self._ip(peer, _IP.size + length)
        self.seq = self.seq + len(data) + bool(flags & (SYN | FIN)) & _MASK
        return self._head + ip + tcp + options, data

    def _ip(self, peer: End, length: int) -> bytes:
        total = self._flow + 0x4500 + length + self._ident + 0x4000 + 0x4006
        checksum = -total % 65535
        addresses = self.address, peer.address
        return _IP.pack(0x45, 0, length, self._ident, 0x4000, 64, 6, checksum, *addresses)


def _sum(data: bytes | memoryview) -> int:
    """The 16-bit words of data, added up; modulo 65535 this is what the Internet checksum needs."""
    return _full_sum(bytes(data)) if len(data) == MSS else _any_sum(data)


def _any_sum(data: bytes | memoryview) -> int:
    value = int.from_bytes(data, "big")
    return (value << 8 if len(data) & 1 else value) % 65535


@lru_cache(maxsize=4096)
def _full_sum(data: bytes) -> int:
    """Of a full segment; bulk data is often the same again."""
    return _any_sum(data)


def segments(data: bytes | memoryview) -> Iterator[bytes | memoryview]:
    """Data cut as TCP does it; no segment is too short for a dissector."""
    view = memoryview(data)
    start = 0
    while start < len(view):
        stop = start + MSS
        if 0 < len(view) - stop < SHORTEST:
            stop -= SHORTEST
        yield view[start:stop]
        start = stop
