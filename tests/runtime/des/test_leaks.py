"""Nothing that ran stays behind, and nothing that breaks off midway breaks the interpreter."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from contextlib import suppress
from pathlib import Path

import pytest

des = pytest.importorskip("labsim.runtime.des", reason="the native modules are not built")

ROOT = Path(__file__).resolve().parents[3]


def test_a_million_processes_return_all_memory():
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.des.crowd"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    traced, resident = map(int, done.stdout.split())
    assert traced < 50_000
    assert resident < 8 << 20


def kinds(env):
    """One event of each kind, some waiting, some done."""
    slots, tank, store = des.Resource(env), des.Container(env), des.Store(env)

    def sleeping():
        with suppress(des.Interrupt):
            yield env.timeout(9)

    process = env.process(sleeping())
    events = [env.event(), env.timeout(1), process, env.timeout(1) | env.event()]
    events += [slots.request(), slots.request(), slots.release(slots.users[0])]
    events += [tank.put(1), tank.get(5), store.put("item"), store.get(), store.get()]
    env.run(until=2)
    process.interrupt()
    return [*events, process.target, slots, tank, store]


def test_every_kind_is_collected():
    env = des.Environment()
    things = kinds(env)
    refs = [weakref.ref(thing) for thing in [*things, env]]
    del things, env
    gc.collect()
    assert [ref() for ref in refs if ref() is not None] == []


@pytest.mark.skipif(not hasattr(sys, "getrefcount"), reason="no reference counts to look at")
def test_reference_counts_return():
    value = object()
    types = [kind for kind in vars(des.events).values() if isinstance(kind, type)]

    def once():
        env = des.Environment()
        store = des.Store(env)

        def process():
            yield env.timeout(1, value)
            yield store.put(value)
            got = yield store.get()
            yield env.all_of([env.event().succeed(value), env.timeout(0, got)])
            return value

        env.run(env.process(process()))
        env.cancel(env.timeout(5, value))

    once()
    gc.collect()
    before = [sys.getrefcount(one) for one in (value, None, *types)]
    for _ in range(200):
        once()
    gc.collect()
    after = [sys.getrefcount(one) for one in (value, None, *types)]
    assert all(now - then < 50 for then, now in zip(before, after, strict=True))


ROUGH = """
import gc
import labsim.runtime.des as des

def chain(env, depth):
    process = None
    for _ in range(depth):
        def waits(on=process):
            yield on or env.timeout(1)
        process = env.process(waits())
    return process

def closing(env):
    try:
        yield env.timeout(1)
    finally:
        env.timeout(1)
        gc.collect()

env = des.Environment()
chain(env, 300_000)
env.step()
del env
gc.collect()
env = des.Environment()
chain(env, 100_000)
env.run()

env = des.Environment()
process = env.process(closing(env))
env.step()
process._generator.close()
try:
    env.run()
except BaseException as error:
    print(type(error).__name__)
env.process(closing(env))
env.step()
event = env.event()
event.callbacks.append(lambda event: event.env.run())
event.succeed()
env.run()
event = env.event()
for _ in range(200_000):
    event = event | env.event()
del event, env
gc.collect()

class Odd(des.Event):
    def __init__(self):
        pass

for use in (lambda odd: odd.succeed(), lambda odd: odd | odd, lambda odd: odd.env, repr,
            lambda odd: des.AllOf(des.Environment(), [odd])):
    try:
        use(Odd())
    except AttributeError:
        pass
late = des.Environment()
late.process(closing(late))
late.step()
print("done")
"""


def test_what_breaks_off_does_not_break_the_interpreter():
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-X", "dev", "-c", ROUGH],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "done"


@pytest.mark.parametrize("sanitize", [False, True])
def test_a_short_fuzz(sanitize):
    arguments = ["--seconds", "3", "--seed", "1000"] + ["--sanitize"] * sanitize
    done = subprocess.run(
        [sys.executable, str(ROOT / "native/des/fuzz.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if "cannot find" in done.stderr or "cannot be preloaded" in done.stderr:
        pytest.skip("no sanitizers are installed for the C compiler")
    assert done.returncode == 0, done.stderr
