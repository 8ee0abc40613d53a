"""LU-8541: the age of unused locks, kept in the kernel's ticks."""

from __future__ import annotations

from labsim.base.grammar import kstrto
from labsim.base.overlay import Overlay
from labsim.base.units import NS_PER_S
from labsim.ldlm.namespace import Namespace


class AgeInJiffies(Overlay, of=Namespace):
    """ns_max_age holds jiffies, and is shown and stored as it is."""

    because = "8c82ab5cd92e: lru_max_age of 2007; 800ffd471186 made it milliseconds"

    def default_lru_max_age(self) -> int:
        """LDLM_DEFAULT_MAX_ALIVE, in ticks."""
        return self.host.kit.traits.lru_max_age_s * self.host.clock.hz

    def max_age_ns(self) -> int:
        """Ticks, however long they are."""
        return self.lru_max_age * NS_PER_S // self.host.clock.hz

    def store_lru_max_age(self, text: str) -> None:
        """A bare number."""
        self.lru_max_age = kstrto(text, 10, 0, 2**64 - 1)
        self.age_changed()
