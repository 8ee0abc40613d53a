"""Scenario files: found, read, checked.

Does not run anything. Errors say `file:line:column: what, did you mean ...`, all of a file at once.
The overlay of a regression is the .py file beside its .yaml; it is imported when a tree needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from labsim.base.errors import InputError
from labsim.base.overlay import Overlay
from labsim.scenario import model
from labsim.scenario.decode import Problems, compose
from labsim.scenario.reader import Reader
from labsim.scenario.suggest import nearest

SUFFIX = ".yaml"


# ---- finding


def roots() -> list[Path]:
    """Where packaged scenarios are: inside the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    candidates = [package / "_scenarios", package.parent / "scenarios"]
    return [path for path in candidates if path.is_dir()]


def find(arguments: Iterable[str]) -> list[Path]:
    """The files that paths, folders or packaged names ("xattr/lu_10787") stand for, in order."""
    found: list[Path] = []
    for argument in arguments:
        for path in _files(argument):
            if path not in found:
                found.append(path)
    return found


def everything() -> list[Path]:
    """Every packaged scenario."""
    return [path for root in roots()[:1] for path in sorted(root.rglob(f"*{SUFFIX}"))]


def all_or(arguments: Iterable[str]) -> list[Path]:
    """What `find` finds, or every packaged scenario where nothing is asked for."""
    found = find(arguments) or everything()
    if not found:
        raise InputError("no scenario came with this installation; name a file", "labsim")
    return found


def _files(argument: str) -> list[Path]:
    candidates = [Path(argument), Path(argument + SUFFIX)]
    for root in roots():
        candidates += [root / argument, root / (argument + SUFFIX)]
    for path in candidates:
        if path.is_file():
            return [path]
        if path.is_dir():
            inside = sorted(path.rglob(f"*{SUFFIX}"))
            if inside:
                return inside
            raise InputError("this folder has no scenario (*.yaml)", argument)
    raise InputError(f"no such scenario{nearest(argument, map(name_of, everything()))}", argument)


def name_of(path: Path) -> str:
    """A file's folder and stem: xattr/lu_10787."""
    return f"{path.resolve().parent.name}/{path.stem}"


# ---- loading


def load(path: Path | str, text: str | None = None) -> model.Scenario:
    """Read and check one file; raises Problems with every mistake in it."""
    path = Path(path)
    shown = _shown(path)
    root = compose(shown, text)
    reader = Reader(name_of(path), str(path.resolve()))
    scenario = reader.scenario(root)
    if scenario is None:
        raise Problems(shown, reader.decoder.problems)
    return scenario


def _shown(path: Path) -> str:
    """A path as a user would write it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


# ---- overlays


def overlay_file(scenario: model.Scenario) -> str | None:
    """The .py file beside a scenario, where there is one."""
    if not scenario.path:
        return None
    path = Path(scenario.path).with_suffix(".py")
    return str(path) if path.is_file() else None


def overlays(path: str | None) -> list[type[Overlay]]:
    """The overlays that a file declares, in the order it does."""
    if path is None:
        return []
    module = _module(path)
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Overlay) and value.overlaid is not None
        and value.__module__ == module.__name__
    ]  # fmt: skip


def _module(path: str) -> Any:
    from importlib.util import module_from_spec, spec_from_file_location

    where = Path(path)
    name = f"labsim_scenarios.{where.parent.name}.{where.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == path:
        return loaded
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"cannot be imported: {type(error).__name__}: {error}", path) from error
    return module
