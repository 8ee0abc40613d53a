"""The tap of a simulated cluster: what goes over its network, written to a capture as it runs.

Does not know what the messages mean. Stands for tcpdump on every node. Nothing is read back, and
nobody waits for it, so the run goes as it would without.

A message that a packet rule loses or delays is captured where and when it was sent: such rules
stand for faults beyond the sender's network card.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from labsim.net import frame
from labsim.net.conversations import Conversations
from labsim.net.lnet import Lnet, Packet
from labsim.net.pcap import PcapFile


class Watcher(Protocol):
    """Who writes down what goes by."""

    def watch(self, lnet: Lnet) -> None:
        """From now on, everything that this LNet sends and receives; its node has just begun."""

    def close(self) -> None:
        """No more."""


class NoCapture:
    """Nobody watches."""

    encode = staticmethod(frame.encode)

    def watch(self, lnet: Lnet) -> None:
        """Nothing to do."""

    def flush(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class Capture:
    """A capture file of a simulated cluster, written while it runs.

    `now()` is the run's time in ns, `epoch_ns` the date at which it started. InputError where the
    file cannot be written.
    """

    def __init__(self, path: str, now: Callable[[], int], epoch_ns: int) -> None:
        self._file = PcapFile(path)
        self._conversations = Conversations(self._file)
        self._now = now
        self._epoch_ns = epoch_ns

    def watch(self, lnet: Lnet) -> None:
        """Tap a node's LNet."""
        here, conversations = lnet.nid, self._conversations
        conversations.powered_on(here, self._epoch_ns + self._now())

        def tap(packet: Packet) -> None:
            if packet.src == packet.dst:
                return
            time_ns = self._epoch_ns + self._now()
            if packet.src == here:
                conversations.sent(time_ns, packet, *frame.encode(packet))
            else:
                conversations.arrived(time_ns, packet)

        lnet.taps.append(tap)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()
