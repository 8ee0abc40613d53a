"""The native kernel does what SimPy does, in the same order, whatever the program."""

from __future__ import annotations

from importlib import import_module
from typing import TypeVar

import pytest
import simpy
from hypothesis import given, settings

from labsim.runtime import kernels
from labsim.scenario import kits, load
from labsim.scenario.runner import run
from tests.parity.programs import programs, trace

native = pytest.importorskip("labsim.runtime.des", reason="the native modules are not built")


@settings(max_examples=400, deadline=None)
@given(program=programs)
def test_random_programs_run_alike(program):
    assert trace(native, program, observe=False) == trace(simpy, program, observe=False)


@settings(max_examples=200, deadline=None)
@given(program=programs)
def test_every_event_has_its_place(program):
    assert trace(native, program, observe=True) == trace(simpy, program, observe=True)


def own_names(module):
    """What a module of SimPy's defines, without what only its annotations need."""
    return {
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ and not isinstance(value, TypeVar)
    }


def test_the_packages_have_the_same_names():
    resources = [f"resources.{name}" for name in ("base", "container", "resource", "store")]
    for name in ["core", "events", "exceptions", "rt", "util", *resources]:
        theirs = own_names(import_module(f"simpy.{name}"))
        assert theirs <= set(vars(import_module(f"labsim.runtime.des.{name}"))), name
    assert set(simpy.__all__) <= set(native.__all__)


def test_the_switch_knows_both():
    assert kernels.package("simpy") is simpy
    assert kernels.package("native") is native


def outcome(path, kernel, monkeypatch):
    monkeypatch.setenv(kernels.KERNEL_VARIABLE, kernel)
    scenario = load.load(path)
    results = [run(scenario, tree) for tree in kits.around(scenario)]
    return [(result.verdict, result.hash, result.virtual_ns) for result in results]


@pytest.mark.parametrize("path", load.everything(), ids=load.name_of)
def test_a_scenario_has_one_hash_on_both(path, monkeypatch):
    assert outcome(path, "native", monkeypatch) == outcome(path, "simpy", monkeypatch)
