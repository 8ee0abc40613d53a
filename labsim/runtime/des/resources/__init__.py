"""What processes share: slots, amounts and stores, as in `simpy.resources`.

Does not know which processes. Stands for no part of Lustre.
"""

from __future__ import annotations

from labsim.runtime.des.resources import base, container, resource, store

__all__ = ["base", "container", "resource", "store"]
