"""LU-9183: Lustre's own hsm attribute is recognised in every namespace."""

from __future__ import annotations

from labsim.base.overlay import Overlay
from labsim.nodes.client.xattr import Handler, Xattrs


class AnyNamespaceHsm(Overlay, of=Xattrs):
    """The namespace is dropped from the comparison."""

    because = "7c332c2757fb (LU-9183): the handler sees only the suffix, and tests it for 'hsm'"

    def ignores(self, handler: Handler, suffix: str) -> bool:
        """The suffix alone decides."""
        return suffix == "hsm" or super().ignores(handler, suffix)
