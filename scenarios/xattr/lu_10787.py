"""LU-10787: a replacement is taken for a removal."""

from __future__ import annotations

from labsim.base.overlay import Overlay
from labsim.nodes.client.xattr import XATTR_REPLACE, Xattrs


class ReplaceDeletes(Overlay, of=Xattrs):
    """Only the flag is tested, not that a removal comes without a value."""

    because = "7c332c2757fb (LU-9183): removexattr is recognised by flags == XATTR_REPLACE"

    def removes(self, value: bytes | None, flags: int) -> bool:
        """A removal has the flag, but so has a replacement."""
        return flags == XATTR_REPLACE
