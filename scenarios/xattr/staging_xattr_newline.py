"""The staging client's xattr names: built with a newline at the end."""

from __future__ import annotations

from labsim.base.overlay import Overlay
from labsim.nodes.client.xattr import Handler, Xattrs


class NewlineInName(Overlay, of=Xattrs):
    """The full name is what one format string makes of prefix and suffix, to set and to get."""

    because = "torvalds/linux@0642048d82af: the kasprintf format of the full name ends in a newline"

    def full_name(self, handler: Handler, suffix: str) -> str:
        """One character more than the name."""
        return super().full_name(handler, suffix) + "\n"
