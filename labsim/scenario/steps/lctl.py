"""The verbs of lctl: get_param, set_param, list_param.

Does not know any parameter. Stands for lctl (lustre/utils/lustre_cfg.c).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Annotated, Any

from labsim.scenario.steps.context import Context
from labsim.scenario.steps.registry import ROLES, flag, verb

Step = Generator[Any, Any, Any]


@verb("lctl get_param", on=ROLES)
def get_param(
    ctx: Context,
    *patterns: str,
    bare: Annotated[bool, flag("-n")] = False,
    names: Annotated[bool, flag("-N")] = False,
    classify: Annotated[bool, flag("-F")] = False,
) -> Step:
    """Show parameters; -n: only values, -N: only names.

    lctl get_param [-n | -N [-F]] PATTERN...
    """
    yield from ()


@verb("lctl set_param", on=ROLES)
def set_param(
    ctx: Context,
    *settings: str,
    bare: Annotated[bool, flag("-n")] = False,
    permanent: Annotated[bool, flag("-P")] = False,
    delete: Annotated[bool, flag("-d")] = False,
) -> Step:
    """Set parameters; -P: for good (on the MGS).

    lctl set_param [-n] [-P [-d]] PATTERN=VALUE...
    """
    yield from ()


@verb("lctl list_param", on=ROLES)
def list_param(
    ctx: Context,
    *patterns: str,
    classify: Annotated[bool, flag("-F")] = False,
    recursive: Annotated[bool, flag("-R")] = False,
) -> Step:
    """Show the names of parameters.

    lctl list_param [-F] [-R] PATTERN...
    """
    yield from ()
