"""The MGS: where a parameter is set for every node, and for good.

Does not serve configuration logs yet: nodes are told their configuration when they are mounted,
and parameters set here reach them through the machine the MGS is on. Stands for lustre/mgs.
"""

from __future__ import annotations

from typing import Any

from labsim.nodes.node import Node


class Mgs(Node):
    """A management server."""

    kind = "mgs"

    def set_param(self, pattern: str, text: str) -> None:
        """What `lctl set_param -P PATTERN=TEXT` does: every node takes it, for good."""
        self.host.trace.emit("mgs.set_param", pattern, text)
        self.on_set_param(pattern, text)

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants."""
        permanent = [list(record) for record in self.config.fs.params]
        return super().snapshot() | {"params": permanent}
