"""The one place that chooses between a native module and its pure twin.

Does not know what either computes. With LABSIM_PURE=1 in the environment everything runs on the
twins in `labsim/pure`. Stands for no part of Lustre.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

PURE = os.environ.get("LABSIM_PURE", "") not in ("", "0")
"""Whether the twins were asked for."""

if TYPE_CHECKING or PURE:
    from labsim.pure.extents import ExtentMap
    from labsim.pure.intervals import IntervalTree
    from labsim.pure.messages import Messages
    from labsim.pure.structs import Struct, settle, space
else:
    try:
        from labsim._extents import ExtentMap
        from labsim._intervals import IntervalTree
        from labsim._wire import Messages, Struct, settle, space
    except ImportError as error:
        raise ImportError(
            "labsim's native modules are not built: install the package with pip, "
            "or set LABSIM_PURE=1"
        ) from error

__all__ = ["PURE", "ExtentMap", "IntervalTree", "Messages", "Struct", "settle", "space"]
