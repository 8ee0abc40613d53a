"""A container of an amount of something, as in `simpy.resources.container`.

Does not know what it contains.
"""

from __future__ import annotations

from labsim._des import Container, ContainerGet, ContainerPut

__all__ = ["Container", "ContainerAmount", "ContainerGet", "ContainerPut"]

ContainerAmount = int | float
