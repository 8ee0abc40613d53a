"""A container of an amount of something, as in `simpy.resources.container`.

Does not know what it contains.
"""

from __future__ import annotations

from labsim import _des
from labsim._des import ContainerGet, ContainerPut
from labsim.runtime.des.resources.base import BaseResource

__all__ = ["Container", "ContainerAmount", "ContainerGet", "ContainerPut"]

ContainerAmount = int | float


class Container(_des.Container, BaseResource):
    """An amount that is put and taken, up to a capacity."""
