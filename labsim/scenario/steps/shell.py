"""The shell of a node: one command line, from its text to its Result.

Does not know any verb, nor which runtime carries it. Each command is a process of its own: its name
is the first word, its environment what is assigned in front of it (`JOBENV=7 cp a b`).
Redirections go to files of the file system, to /dev/null, or to /proc/sys/vm/drop_caches.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from labsim.base.errors import InputError, LustreError, ProtocolError
from labsim.base.payload import Payload, tobytes
from labsim.nodes.jobs import COMM_SIZE, Task
from labsim.scenario import known_params
from labsim.scenario.steps import system
from labsim.scenario.steps.context import Context, Result, basename, write_all
from labsim.scenario.steps.registry import Verb, find
from labsim.scenario.words import SyntaxProblem, Word, parse

DROP_CACHES = "/proc/sys/vm/drop_caches"
NULL = "/dev/null"
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")

PARAM_VERBS = {"lctl get_param", "lctl set_param", "lctl list_param"}


def check(text: str, role: str | None, params: bool = False) -> list[tuple[Word, str]]:
    """Parse a command without running it: (word, name) of each variable that it uses.

    Raises SyntaxProblem where the command is wrong; with `params` also for an unknown parameter.
    """
    command = parse(text)
    _, words = _prefix(command.words)
    verb, rest = find(words, role)
    verb.bind(rest, len(text))
    if params and verb.name in PARAM_VERBS:
        known_params.check(rest, setting=verb.name == "lctl set_param")
    target = [command.target] if command.target else []
    if target and role != "client" and command.target is not None and command.target.text != NULL:
        raise SyntaxProblem("only a client can write into a file", command.target.start)
    return [(word, name) for word in [*command.words, *target] for name in word.names]


def execute(
    node: Any,
    host: Any,
    role: str,
    text: str,
    values: Mapping[str, str] | None = None,
    user: str = "",
) -> Generator[Any, Any, Result]:
    """Run one command line on a node; raises InputError where it cannot be understood.

    `values` are the variables it may use; `user` is root, UID or UID:GID (empty: root).
    """
    command = parse(text, values or {})
    given, words = _prefix(command.words)
    verb, rest = find(words, role)
    operands, options = verb.bind(rest, len(text))
    who = given.who or identity(user)
    ctx = Context(node, host, role, who)
    comm = basename(words[0].text)[: COMM_SIZE - 1]
    task = Task(comm, node.globals.next_pid(), *who, given.variables)
    try:
        steps = _perform(ctx, command, verb, operands, options)
        result: Result = yield from node.globals.acting(task, steps)
        return result
    finally:
        if ctx.vfs is not None:
            ctx.vfs.exit()


def _perform(
    ctx: Context, command: Any, verb: Verb, operands: list[Any], options: dict[str, Any]
) -> Generator[Any, Any, Result]:
    """The verb, with what it prints going where it shall."""
    try:
        sink = None if command.target is None else (yield from _open(ctx, command))
        try:
            yield from verb.run(ctx, *operands, **options)
        except LustreError as error:
            ctx.fail(verb.name, error)
        except ProtocolError as error:
            ctx.fail(verb.name, LustreError(errno.EPROTO, str(error)))
        if sink is not None:
            yield from sink(ctx.take_stdout())
    except _Refused:
        pass
    return ctx.result()


def identity(user: str) -> tuple[int, int]:
    """(uid, gid) of root, UID or UID:GID."""
    if user in {"", "root"}:
        return 0, 0
    uid, _, gid = user.partition(":")
    if not uid.isdigit() or not (gid or uid).isdigit():
        raise InputError(f"'{user}' is no user; write root, UID or UID:GID")
    return int(uid), int(gid or uid)


class _Refused(Exception):
    """The shell could not open the file of a redirection; it has said so."""


class _Given(NamedTuple):
    """What stands in front of a command."""

    who: tuple[int, int] | None = None
    variables: tuple[tuple[str, str], ...] = ()


def _prefix(words: Sequence[Word]) -> tuple[_Given, Sequence[Word]]:
    """`NAME=VALUE ...` and `runas -u UID [-g GID]` in front of a command, in this order."""
    environ: list[tuple[str, str]] = []
    while words and _ASSIGNMENT.match(words[0].text):
        name, _, value = words[0].text.partition("=")
        environ.append((name, value))
        words = words[1:]
    who, words = _user(words)
    return _Given(who, tuple(environ)), words


def _user(words: Sequence[Word]) -> tuple[tuple[int, int] | None, Sequence[Word]]:
    """`runas -u UID [-g GID]` in front of a command, as Lustre's tests have it."""
    if not words or words[0].text != "runas":
        return None, words
    rest, ids = list(words[1:]), {}
    while len(rest) > 1 and rest[0].text in {"-u", "-g"}:
        if not rest[1].text.isdigit():
            raise SyntaxProblem(f"runas: '{rest[1].text}' is no number", rest[1].start)
        ids[rest[0].text] = int(rest[1].text)
        rest = rest[2:]
    if "-u" not in ids:
        raise SyntaxProblem("write runas -u UID [-g GID] COMMAND", words[0].start)
    return (ids["-u"], ids.get("-g", ids["-u"])), rest


# ---- redirection


def _open(ctx: Context, command: Any) -> Generator[Any, Any, Any]:
    """Open what output goes to, before the command runs; the result takes the output."""
    target = command.target.text
    if target == NULL:
        return _discard(ctx)
    if target == DROP_CACHES:
        return _drop_caches(ctx)
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if command.append else os.O_TRUNC)
    try:
        file = yield from ctx.vfs.open(target, flags, 0o666)
    except LustreError as error:
        ctx.fail(f"sh: {target}", error)
        raise _Refused from error
    return _into(ctx, file, target)


def _discard(ctx: Context) -> Any:
    def sink(_output: list[Payload]) -> Generator[Any, Any, None]:
        yield from ()

    return sink


def _drop_caches(ctx: Context) -> Any:
    def sink(output: list[Payload]) -> Generator[Any, Any, None]:
        text = b"".join(map(tobytes, output)).strip()
        if text not in {b"1", b"2", b"3"}:
            ctx.fail("sh: write error", errno.EINVAL)
            return
        yield from system.drop_caches(ctx, int(text))

    return sink


def _into(ctx: Context, file: Any, target: str) -> Any:
    def sink(output: list[Payload]) -> Generator[Any, Any, None]:
        try:
            for data in output:
                yield from write_all(ctx.vfs, file, data)
        except LustreError as error:
            ctx.fail("sh: write error", error)
        finally:
            with suppress(LustreError):  # a shell does not look at what close(2) of > FILE returns
                yield from ctx.vfs.close(file)

    return sink
