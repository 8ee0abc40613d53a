"""LU-3544: a lock is matched for data that is not there any more."""

from __future__ import annotations

from labsim.base.overlay import Overlay
from labsim.nodes.client.inode import Inode
from labsim.nodes.client.xattr_cache import XattrCache


class MatchWithoutData(Overlay, of=XattrCache):
    """A refill looks for a granted lock first, whether or not the inode has data under it."""

    because = "e53d1c18ea9f (LU-2869): the match is tried without testing the cache-valid flag"

    def may_match(self, inode: Inode) -> bool:
        """Any lock will do."""
        return True
