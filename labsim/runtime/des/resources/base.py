"""What all resources are made of, as in `simpy.resources.base`; the native module has it.

Does not know what a resource holds.
"""

from __future__ import annotations

from labsim._des import BaseResource, BoundClass, Get, Put

__all__ = ["BaseResource", "BoundClass", "Get", "Put"]
