"""Operating system processes: started fast, stopped surely, never left behind.

Does not know nodes: a child runs one named function on one piece of plain bytes. Stands for the
machines of a cluster and their power switches. Children come from a fork server that has imported
everything already, so that one starts in tens of milliseconds; they share no memory with whoever
asked for them, ignore Ctrl-C (their parent stops them), and end by themselves when it dies.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from time import monotonic
from types import ModuleType
from typing import Any

import multiprocess
from multiprocess import connection, resource_tracker, util
from multiprocess.forkserver import _forkserver as forkserver

LONGEST_TMPDIR = 72
"""Bytes: what is left of the 107 of a socket's name beside /pymp-XXXXXXXX/listener-XXXXXXXX."""
GRACE_S = 2.0
"""How long a child that was asked to stop may take."""


class Child:
    """One process that was started here."""

    def __init__(self, name: str, process: Any) -> None:
        self.name = name
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self._process.pid)

    @property
    def sentinel(self) -> int:
        """A file descriptor that becomes readable when it has ended."""
        return int(self._process.sentinel)

    @property
    def alive(self) -> bool:
        """True until it has ended."""
        return bool(self._process.is_alive())

    @property
    def status(self) -> int | None:
        """Its exit status; a negative signal number; None while it runs."""
        status: int | None = self._process.exitcode
        return status

    def kill(self) -> None:
        """Kill -9: it gets no chance to say or write anything."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended; False when the time was not enough."""
        self._process.join(seconds)
        return not self.alive


class Processes:
    """The children of one cluster; `close` ends them all, whatever they do."""

    def __init__(self, directory: str, preload: tuple[str, ...] = ()) -> None:
        self.directory = directory
        """Removed by the last child, should this process die before it can."""
        _settle_fork_server()
        self._context = multiprocess.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self.children: list[Child] = []

    def start(self, name: str, function: str, argument: bytes) -> Child:
        """Run `function` ("package.module:name") on `argument` in a new process.

        What it prints goes to the file NAME.log in the directory.
        """
        arguments = (function, argument, self.directory, name)
        process = self._context.Process(target=_run_child, args=arguments, name=name, daemon=True)
        _run_fork_server()
        with _no_main_module():
            process.start()
        child = Child(name, process)
        self.children = [other for other in self.children if other.alive]
        self.children.append(child)
        return child

    def close(self, grace_s: float = 0.0) -> None:
        """Give the children `grace_s` to end by themselves, then kill them; wait for each."""
        until = monotonic() + grace_s
        try:
            for child in self.children:
                child.wait(max(until - monotonic(), 0.0))
        finally:
            for child in self.children:
                child.kill()
            for child in self.children:
                child.wait(GRACE_S)
            self.children.clear()


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Hide the program that is running: a child must not run it again.

    multiprocess would import it in the child, which without a `__main__` guard starts a cluster
    inside the cluster.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _settle_fork_server() -> None:
    """Have the fork server's socket in /tmp where TMPDIR is too long for the name of a socket."""
    if len(os.fsencode(tempfile.gettempdir())) > LONGEST_TMPDIR:
        before, tempfile.tempdir = tempfile.tempdir, "/tmp"
        try:
            util.get_temp_dir()
        finally:
            tempfile.tempdir = before


def _run_fork_server() -> None:
    """Start the fork server, if it does not run, deaf to Ctrl-C: it imports for a while at first.

    What is blocked here is blocked in it and in its children. The resource tracker comes first:
    multiprocess starts it on the way, and unblocks the signal then.
    """
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_child(function: str, argument: bytes, directory: str, name: str) -> None:
    """The first thing a child does: cut itself loose, then be what it was started for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    try:
        _print_to(os.path.join(directory, f"{name}.log"))
    except FileNotFoundError:
        return  # the parent was stopped, and has cleaned up, before this child was ready
    parent = multiprocess.parent_process().sentinel
    left_behind = [directory, *_server_directory()]
    on_orphaned(parent, lambda: _remove(left_behind))
    module, _, attribute = function.partition(":")
    getattr(import_module(module), attribute)(argument)


def _server_directory() -> list[str]:
    """Where the fork server's socket is; its owner removes it, unless the owner was killed."""
    address = getattr(forkserver, "_forkserver_address", None)
    folder = os.path.dirname(address) if isinstance(address, str) else ""
    return [folder] if os.path.basename(folder).startswith("pymp-") else []


def _remove(directories: list[str]) -> None:
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def stay_on(cpus: Sequence[int]) -> None:
    """Run this process, and what it starts from now on, on those CPUs only."""
    if cpus:
        os.sched_setaffinity(0, cpus)


def choose_cpus(count: int) -> tuple[int, ...]:
    """So many of the CPUs this process may use, another choice in each process; all when few."""
    mine = sorted(os.sched_getaffinity(0))
    first = os.getpid() % len(mine)
    return tuple(sorted((mine[first:] + mine[:first])[:count]))


def _print_to(path: str) -> None:
    """Point standard output and error to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def on_orphaned(sentinel: int, clean_up: Callable[[], None]) -> None:
    """Clean up and end this process at once when the parent has gone."""

    def watch() -> None:
        connection.wait([sentinel])
        clean_up()
        os._exit(1)

    threading.Thread(target=watch, name="orphan-watch", daemon=True).start()
