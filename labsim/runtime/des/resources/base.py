"""What all resources are made of, as in `simpy.resources.base`; the native module has it.

Does not know what a resource holds.
"""

from __future__ import annotations

from labsim import _des
from labsim._des import BoundClass, Get, Put

__all__ = ["BaseResource", "BoundClass", "Get", "Put"]


class BaseResource(_des.BaseResource):
    """Put requests and get requests wait in queues; `_do_put` and `_do_get` serve them."""
