"""LU-6421: a limit of zero pages before there is a connection."""

from __future__ import annotations

from labsim.base.overlay import Overlay
from labsim.nodes.client.osc import Osc


class BoundBeforeConnect(Overlay, of=Osc):
    """The upper bound is ocd_brw_size in pages, which is 0 until the connect reply."""

    because = "before 59efcfeb109e (LU-6421): the bound is applied while ocd_brw_size is 0"

    def max_pages_bound(self) -> int:
        """The server's limit, known or not."""
        return self.brw_pages()
