"""The simulated network: latency, bandwidth and queueing, one event per packet.

Does not know what packets carry; they travel as the objects they are. Stands for NICs, cables and
switches. Each node sends through one FIFO and receives through another, both at the bandwidth of
its link; the time a packet leaves and the time it has arrived follow in closed form from when the
FIFOs become free, so no packet costs more than one event.

What the model leaves out: a packet takes its place in the receiver's FIFO when it is sent, so one
that waits long at its sender also holds back later ones from elsewhere; a switch has no limit of
its own; a packet that a rule delays takes no place in any FIFO; nothing is lost unless a rule says
so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from labsim.base.ids import Nid
from labsim.base.units import NS_PER_S, NS_PER_US
from labsim.net.lnet import Lnet, Packet
from labsim.runtime.ports import Env


class Link(NamedTuple):
    """How a node is connected; model inputs, not measurements."""

    latency_ns: int
    """From the last byte sent to the first received: wire, switch and both hosts, one way."""
    bandwidth: int
    """Bytes per second, each way."""
    overhead_ns: int = 0
    """Per message, on top of its bytes, on each side."""


PRESETS = {
    "ethernet-1g": Link(50 * NS_PER_US, 118_000_000, 2_000),
    "ethernet-10g": Link(20 * NS_PER_US, 1_180_000_000, 1_500),
    "ethernet-100g": Link(8 * NS_PER_US, 11_800_000_000, 1_000),
    "infiniband-hdr": Link(2 * NS_PER_US, 24_000_000_000, 500),
    "instant": Link(0, 1 << 60, 0),
}
"""Named links: a line rate less framing, and a plausible latency of LNet over it."""
DEFAULT = "ethernet-10g"


class Port:
    """One node's attachment to the fabric: the LND under its LNet."""

    __slots__ = ("_fabric", "link", "nid", "receive", "rx_free_ns", "tx_free_ns")

    def __init__(
        self, fabric: Fabric, nid: Nid, link: Link, receive: Callable[[Packet], None]
    ) -> None:
        self._fabric = fabric
        self.nid = nid
        self.link = link
        self.receive = receive
        self.tx_free_ns = 0
        self.rx_free_ns = 0

    def send(self, packet: Packet, delay_ns: int = 0) -> None:
        """Put a packet on the wire; it is delivered when its last byte has arrived."""
        self._fabric.carry(self, packet, delay_ns)

    def arrival_ns(self, size: int, first_ns: int, last_ns: int) -> int:
        """When the last byte is in: not before it was sent, nor before others have come in."""
        link, free_ns = self.link, self.rx_free_ns
        begin_ns = first_ns if first_ns > free_ns else free_ns
        taken_ns = begin_ns + link.overhead_ns + size * NS_PER_S // link.bandwidth
        self.rx_free_ns = last_ns if last_ns > taken_ns else taken_ns
        return self.rx_free_ns

    def close(self) -> None:
        """Pull the cable: what is under way to this node is lost."""
        self._fabric.detach(self)


class Fabric:
    """The network that all nodes of a simulated cluster share."""

    def __init__(self, env: Env, link: Link = PRESETS[DEFAULT]) -> None:
        self._env = env
        self.link = link
        self._ports: dict[int, Port] = {}
        self.undeliverable = 0
        """Packets to a NID that nobody had when they arrived."""

    def attach(self, lnet: Lnet, link: Link | None = None) -> Port:
        """Connect a node's LNet; `link` if its own differs from the fabric's."""
        port = Port(self, lnet.nid, link or self.link, lnet.receive)
        self._ports[lnet.nid] = port
        lnet.lnd = port
        return port

    def detach(self, port: Port) -> None:
        """Disconnect a node; harmless when another has taken its NID."""
        if self._ports.get(port.nid) is port:
            del self._ports[port.nid]

    def carry(self, port: Port, packet: Packet, delay_ns: int) -> None:
        """Work out when the packet is in the receiver's hands, and deliver it then.

        It leaves when its sender's line is free. What is delayed takes no place on the lines.
        """
        target = self._ports.get(packet.dst)
        if target is not port:
            size, link = packet.wire_size, port.link
            takes_ns = link.overhead_ns + size * NS_PER_S // link.bandwidth
            if delay_ns:
                delay_ns += takes_ns + link.latency_ns
            else:
                now = self._env.now
                start_ns = now if now > port.tx_free_ns else port.tx_free_ns
                port.tx_free_ns = last_ns = start_ns + takes_ns
                last_ns += link.latency_ns
                if target is not None:
                    last_ns = target.arrival_ns(size, start_ns + link.latency_ns, last_ns)
                delay_ns = last_ns - now
        timer = self._env.timeout(delay_ns, packet)
        timer.callbacks.append(self._deliver)

    def _deliver(self, timer: Any) -> None:
        packet: Packet = timer.value
        port = self._ports.get(packet.dst)
        if port is None:
            self.undeliverable += 1
            return
        port.receive(packet)
