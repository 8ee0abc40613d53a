"""LU-9109: files of the lock namespaces that are numbers without a line."""

from __future__ import annotations

from labsim.base.overlay import Overlay
from labsim.ldlm.namespace import Namespace


class NoNewline(Overlay, of=Namespace):
    """The show functions print the number and nothing after it."""

    because = '1196bd199e7c (LU-8066): the format of the sysfs show functions is "%u"'

    def show_lru_size(self) -> str:
        """The number of locks."""
        return super().show_lru_size().rstrip("\n")

    def show_lru_max_age(self) -> str:
        """The age."""
        return super().show_lru_max_age().rstrip("\n")
