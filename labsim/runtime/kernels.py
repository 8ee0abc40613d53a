"""The event kernels to choose from: the native one, and SimPy as its twin and oracle.

Does not know what runs on them. `LABSIM_KERNEL` names the one that simulations run on; with
`LABSIM_PURE=1` it is SimPy. Stands for the choice of a scheduler.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

from labsim.base.errors import InputError
from labsim.fast import PURE

KERNEL_VARIABLE = "LABSIM_KERNEL"
KERNELS = {"native": "labsim.runtime.des", "simpy": "simpy"}
"""Packages with SimPy's API, by the name of the kernel."""
DEFAULT = "native"


def chosen() -> str:
    """The kernel that the environment asks for."""
    return os.environ.get(KERNEL_VARIABLE) or ("simpy" if PURE else DEFAULT)


def package(name: str) -> ModuleType:
    """The package of a kernel: SimPy, or what has its API."""
    try:
        return import_module(KERNELS[name])
    except KeyError:
        what = f"no kernel '{name}'; there are {' and '.join(KERNELS)}"
        raise InputError(what, KERNEL_VARIABLE) from None
    except ImportError as error:
        what = f"the kernel '{name}' is not built ({error}); install the package with pip"
        raise InputError(what, KERNEL_VARIABLE) from error
