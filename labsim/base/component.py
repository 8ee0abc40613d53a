"""Components: the parts a node is made of, each with its own files in the parameter tree.

Does not know any particular part. Stands for an obd device (or a kobject) with its lprocfs_vars.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from labsim.base.params import Param, made_show, made_store

if TYPE_CHECKING:
    from labsim.base.param_tree import Mount


class Component:
    """Base of everything that has parameters.

    class Osc(Component, tree="osc.{name}"):
        max_rpcs_in_flight = Param.count(8, low=1, high=256, unit="RPCs", help="...")

    `tree` is where the files live; `host.params.mount(self, name=...)` fills the braces. `tree=""`
    puts them at the root (globals). A subclass without `tree` keeps its parent's. See `params`.
    """

    tree: ClassVar[str | None] = None
    """The mount point with its braces; None: this component has no files."""
    declared: ClassVar[Mapping[str, Param]] = {}
    """Every Param of the class by attribute, inherited ones first."""
    mounted: Mount | None = None

    def __init_subclass__(cls, tree: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if tree is not None:
            cls.tree = tree
        declared: dict[str, Param] = {}
        for base in reversed(cls.__mro__):
            known = vars(base).get("declared")
            if base is not cls and isinstance(known, Mapping):
                declared.update(known)
            for name, value in list(vars(base).items()):
                if isinstance(value, Param):
                    declared[name] = value.named(name, base)
                    setattr(cls, name, value.attribute(name))
        cls.declared = declared
        for param in declared.values():
            if not hasattr(cls, "show_" + param.method):
                setattr(cls, "show_" + param.method, made_show(param))
            if not hasattr(cls, "store_" + param.method):
                setattr(cls, "store_" + param.method, made_store(param))
