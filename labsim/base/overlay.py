"""Overlays: how one client tree differs from another without a branch in a node.

Does not know any tree. A component is asked for by its class; the kit answers with that class, or
with one that has the tree's overlays mixed in front of it. Stands for the patches that make one
Lustre source tree differ from the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar

import msgspec

T = TypeVar("T")


class Overlay:
    """A faulty or older rule, as a mixin on one component.

    class ReplaceDeletes(Overlay, of=Xattrs):
        because = "7c332c2757fb: ..."

    The methods it defines stand in front of the component's; `super()` reaches the right ones.
    """

    overlaid: ClassVar[type | None] = None
    """The component; named so that no component has an attribute of that name."""
    because: ClassVar[str] = ""

    def __init_subclass__(cls, of: type | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if of is not None:
            cls.overlaid = of
            if not cls.because.strip():
                raise TypeError(f"overlay {cls.__name__} does not say where its rule comes from")


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What differs from release to release in plain values; components read them as attributes."""

    ocd_version: int = 2 << 24 | 12 << 16
    """major, minor, patch, fix: a byte each (obd_connect_data.ocd_version)."""
    connect_unknown: int = 0
    """OBD_CONNECT_* that the tree has never heard of; its clients do not ask for them."""
    xattr_cache: bool = True
    """The client keeps extended attributes under XATTR inodebits locks."""
    few_xattrs: bool = True
    """The client expects few extended attributes of a file when it asks for all (LU-9417)."""
    osc_idle_s: int = 20
    """Seconds without a reply after which an OSC that holds nothing disconnects; 0: never."""
    jobid_codes: str = "eghjpu"
    """What jobid_name may have behind a percent sign; empty: it is taken as it is."""
    jobid_sessions: bool = False
    """jobid_var may be `session`, and jobid_this_session names its job."""
    lru_max_age_s: int = 3900
    """LDLM_DEFAULT_MAX_ALIVE: seconds that a lock may stay unused."""
    cksum_types: int = 0xF7
    """OBD_CKSUM_* that the tree can compute."""
    flock_by_default: bool = False
    """A client that is mounted without a word about it has file locks of the whole cluster."""
    connect_unknown2: int = 0
    """The same of OBD_CONNECT2_*."""


class Kit:
    """What a node is built from: its overlays, its traits, its dialect of the parameter tree."""

    def __init__(
        self,
        overlays: Iterable[type[Overlay]] = (),
        traits: Traits | None = None,
        dialect: Any = None,
    ) -> None:
        self.traits = traits or Traits()
        self.dialect = dialect
        self.overlays = tuple(overlays)
        self._built: dict[type, type] = {}

    def build(self, component: type[T]) -> type[T]:
        """The class to make `component` from: itself, or with its overlays mixed in."""
        if not self.overlays:
            return component
        built = self._built.get(component)
        if built is None:
            mixins = tuple(
                overlay
                for overlay in self.overlays
                if overlay.overlaid is not None and issubclass(component, overlay.overlaid)
            )
            name = component.__name__
            built = type(name, (*reversed(mixins), component), {}) if mixins else component
            self._built[component] = built
        return built
