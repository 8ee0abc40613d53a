"""Run pytest, or a script, with the native kernel in the place of `simpy`.

python as_simpy.py pytest ARGS...
python as_simpy.py SCRIPT
"""

from __future__ import annotations

import runpy
import sys
from importlib import import_module

MODULES = (
    "core",
    "events",
    "exceptions",
    "resources",
    "resources.base",
    "resources.container",
    "resources.resource",
    "resources.store",
    "rt",
    "util",
)


def alias() -> None:
    """Let `import simpy` and all its submodules mean the drop-in."""
    assert "simpy" not in sys.modules
    for name in ("", *MODULES):
        dot = f".{name}" if name else ""
        sys.modules[f"simpy{dot}"] = import_module(f"labsim.runtime.des{dot}")


if __name__ == "__main__":
    alias()
    if sys.argv[1] == "pytest":
        import pytest

        sys.exit(pytest.main(sys.argv[2:]))
    runpy.run_path(sys.argv[1], run_name="__main__")
