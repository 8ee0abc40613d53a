"""The text of a parameter file, made from a value and read back, by declaration and dialect.

Does not know any file. Stands for the generic helpers of lprocfs_status.c: what most show and store
functions consist of. A component with a rule of its own defines `show_FILE` or `store_FILE`.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from labsim.base.dialect import ANY, PLAIN, Dialect, Rule
from labsim.base.errors import LustreError
from labsim.base.grammar import GRAMMARS
from labsim.base.units import KIB, MIB, NS_PER_MS, NS_PER_S, NS_PER_US, PAGE_SIZE

if TYPE_CHECKING:
    from labsim.base.params import Param

UNITS = {
    "ns": 1,
    "us": NS_PER_US,
    "ms": NS_PER_MS,
    "s": NS_PER_S,
    "bytes": 1,
    "pages": PAGE_SIZE,
    "KiB": KIB,
    "MiB": MIB,
}


def show(param: Param, component: Any) -> str:
    """What a read of the file gives."""
    rule, dialect = placed(param, component)
    if param.kind == "trigger":
        raise LustreError(errno.EACCES, f"{param.file} is write-only")
    value = getattr(component, param.attr)
    if param.kind == "stats":
        now_ns = component.mounted.tree.wall_ns() if component.mounted else 0
        return str(value.render(now_ns, dialect.stats, padded_with_blanks(param, component)))
    text = number_text(param, rule, component, value)
    if not text.endswith("\n") and rule.newline:
        text += "\n"
    return text


def number_text(param: Param, rule: Rule, component: Any, value: Any) -> str:
    """The value in the file's unit, without newline (text that has one keeps it)."""
    if isinstance(value, str):
        return value
    if param.kind == "size":
        return size_text(int(value), text_scale(param, rule, component), rule.fraction)
    if param.kind == "time":
        return str(int(value) * attribute_ns(param) // text_scale(param, rule, component))
    return str(int(value))


def size_text(value: int, scale: int, fraction: bool) -> str:
    """Whole units, with up to two decimals (cut, not rounded) where the file shows fractions."""
    whole, rest = divmod(value, scale)
    decimals = f"{rest * 100 // scale:02}".rstrip("0") if fraction else ""
    return f"{whole}.{decimals}" if decimals else str(whole)


def store(param: Param, component: Any, text: str) -> None:
    """What a write to the file does; LustreError EINVAL or ERANGE where it is refused."""
    rule, _ = placed(param, component)
    if param.kind == "computed":
        raise LustreError(errno.EACCES, f"{param.file} is read-only")
    if param.kind == "stats":
        now_ns = component.mounted.tree.wall_ns() if component.mounted else 0
        getattr(component, param.attr).clear(now_ns)
        return
    value = line(param, rule, text) if param.kind == "text" else read(param, component, text)
    if value is None:
        return
    setter = getattr(component, "set_" + param.attr, None)
    if setter is not None:
        setter(value)
    else:
        setattr(component, param.attr, value)


def line(param: Param, rule: Rule, text: str) -> str:
    """One line of text; EINVAL where it is too long."""
    stripped = text.rstrip("\n")
    high = rule.high if rule.high is not None else param.bounds[1]
    if isinstance(high, int) and len(stripped) > high:
        raise LustreError(errno.EINVAL, f"more than {high} characters")
    return stripped


def read(param: Param, component: Any, text: str) -> int | bool | None:
    """The value that `text` stands for, in the attribute's unit; None where it is to be ignored."""
    rule, dialect = placed(param, component)
    location = rule.location if rule.location != "default" else dialect.location
    kind = "flag" if param.kind == "flag" else param.kind
    scale = text_scale(param, rule, component)
    value = GRAMMARS[dialect.grammar(rule, kind, location)](text, scale)
    accepted = ranged(param, rule, component, value)
    if accepted is None:
        return None
    if param.kind == "flag":
        return bool(accepted)
    return accepted // attribute_ns(param) if param.kind == "time" else accepted


def ranged(param: Param, rule: Rule, component: Any, value: int) -> int | None:
    """The value within its bounds; what lies outside is refused, clamped or ignored by the rule."""
    low, high = (bound(param, rule, component, which) for which in (0, 1))
    if (low is None or value >= low) and (high is None or value <= high):
        return value
    out_of_range = rule.out_of_range or ("truth" if param.kind == "flag" else "ERANGE")
    if out_of_range == "truth":
        return int(value != 0)
    if out_of_range == "ignore":
        return None
    if out_of_range == "clamp":
        return low if low is not None and value < low else high
    number = errno.EINVAL if out_of_range == "EINVAL" else errno.ERANGE
    raise LustreError(number, f"{param.file} wants {low} to {high}")


def bound(param: Param, rule: Rule, component: Any, which: int) -> int | None:
    """The low (0) or high (1) bound in the unit of the grammar's result (bytes, ns, plain)."""
    limit = (rule.low, rule.high)[which]
    if limit is not None:
        return limit * text_scale(param, rule, component)
    declared = param.bounds[which]
    if callable(declared):
        declared = declared(component)
    return declared * declared_scale(param) if declared is not None else None


def declared_scale(param: Param) -> int:
    """Bytes or nanoseconds of one of the declared unit; 1 for plain numbers."""
    return UNITS[param.unit] if param.kind in {"size", "time"} else 1


def text_scale(param: Param, rule: Rule, component: Any) -> int:
    """Bytes or nanoseconds of one in the text."""
    if rule.unit == "jiffies":
        mounted = component.mounted
        return NS_PER_S // (mounted.tree.hz if mounted is not None else 1000)
    if rule.unit and param.kind in {"size", "time"}:
        return UNITS[rule.unit]
    return declared_scale(param)


def attribute_ns(param: Param) -> int:
    """Nanoseconds of one in the attribute of a time: 1 where it is named NAME_ns."""
    return UNITS[param.unit] // param.scale


def padded_with_blanks(param: Param, component: Any) -> bool:
    """Whether this file's nanoseconds are padded with blanks where zeros belong."""
    mounted = component.mounted
    return mounted is not None and mounted.key(param) in mounted.tree.dialect.stats.blank_padded


def placed(param: Param, component: Any) -> tuple[Rule, Dialect]:
    """The rule and the dialect that hold for this component."""
    mounted = component.mounted
    if mounted is None:
        return ANY, PLAIN
    return mounted.rule(param), mounted.tree.dialect
