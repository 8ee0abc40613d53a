"""Many runs: which scenario on which tree, one after the other or on several cores.

Does not know what a run does. The workers are processes of `runtime.processes`; each takes every
n-th run and writes what came out, one JSON line a run, to a file that whoever asked reads along.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import sleep
from typing import Any, BinaryIO

import msgspec

from labsim.base.errors import LabsimError
from labsim.scenario import load, model, stress
from labsim.scenario.cluster import Runtime
from labsim.scenario.runner import DEFAULT_SEED, Run, run
from labsim.scenario.stress import Plan

POLL_S = 0.05


class Task(msgspec.Struct, frozen=True):
    """One run to be made: of the file `path`, or random by `plan` and seed."""

    path: str
    tree: str
    runtime: Runtime = "sim"
    seed: int = DEFAULT_SEED
    pcap: str | None = None
    plan: Plan | None = None
    check: bool = False


class Share(msgspec.Struct, frozen=True):
    """What one worker does, and where it writes."""

    tasks: list[Task]
    output: str


class WorkerDied(LabsimError):
    """A worker ended before its work was done."""


def one_by_one(tasks: list[Task]) -> Iterator[Run]:
    """Run tasks here."""
    scenarios: dict[str, model.Scenario] = {}
    for task in tasks:
        if task.plan is not None:
            random = stress.scenario(task.plan, task.seed)
            yield run(random, task.tree, task.runtime, task.seed, None, task.pcap, task.check)
            continue
        scenario = scenarios.get(task.path)
        if scenario is None:
            scenario = scenarios[task.path] = load.load(task.path)
        yield run(scenario, task.tree, task.runtime, task.seed, None, task.pcap, task.check)


def in_parallel(tasks: list[Task], workers: int, on_run: Callable[[Run], None]) -> None:
    """Run tasks on several cores; `on_run` hears of each as it ends, in no particular order."""
    from labsim.runtime.processes import Processes

    directory = tempfile.mkdtemp(prefix="labsim-batch-")
    processes = Processes(directory, ("labsim.scenario.batch",))
    try:
        with ExitStack() as opened:
            files = _start(processes, tasks, workers, directory, opened)
            _follow(files, len(tasks), on_run, directory)
    finally:
        processes.close()
        shutil.rmtree(directory, ignore_errors=True)


def _start(
    processes: Any, tasks: list[Task], workers: int, directory: str, opened: ExitStack
) -> list[tuple[Any, BinaryIO]]:
    """The workers, and what they write to."""
    files: list[tuple[Any, BinaryIO]] = []
    for number in range(workers):
        output = Path(directory) / f"worker{number}.jsonl"
        output.touch(mode=0o600)
        argument = msgspec.msgpack.encode(Share(tasks[number::workers], str(output)))
        child = processes.start(f"worker{number}", "labsim.scenario.batch:work", argument)
        files.append((child, opened.enter_context(output.open("rb"))))
    return files


def _follow(
    files: list[tuple[Any, BinaryIO]], wanted: int, on_run: Callable[[Run], None], directory: str
) -> None:
    """Read what the workers write until all is there."""
    rest = {id(file): b"" for _, file in files}
    seen = 0
    while seen < wanted:
        alive = any(child.alive for child, _ in files)
        before = seen
        for _, file in files:
            *lines, rest[id(file)] = (rest[id(file)] + file.read()).split(b"\n")
            for line in lines:
                seen += 1
                on_run(msgspec.json.decode(line, type=Run))
        if seen == before:
            if not alive:
                logs = "".join(path.read_text() for path in sorted(Path(directory).glob("*.log")))
                raise WorkerDied(f"a worker died with {wanted - seen} runs to go\n{logs}")
            sleep(POLL_S)


def work(argument: bytes) -> None:
    """What a worker process does."""
    share = msgspec.msgpack.decode(argument, type=Share)
    with Path(share.output).open("ab", buffering=0) as output:
        for made in one_by_one(share.tasks):
            output.write(msgspec.json.encode(made) + b"\n")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
