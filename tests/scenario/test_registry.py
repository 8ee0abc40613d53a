"""The registry of verbs: options read as getopt_long does, mistakes at their words."""

from __future__ import annotations

from collections.abc import Generator
from typing import Annotated, Any

import pytest

from labsim.base.errors import InputError
from labsim.scenario import steps
from labsim.scenario.steps.registry import VERBS, Size, Verb, flag
from labsim.scenario.words import SyntaxProblem, split


def sample(
    ctx: Any,
    first: str,
    *files: str,
    long: Annotated[bool, flag("-l", "--long")] = False,
    recursive: Annotated[bool, flag("-r"), flag("-R", "--recursive")] = False,
    size: Annotated[Size | None, flag("-s", "--size")] = None,
    names: Annotated[list[str], flag("-n", "--name", many=True)] = (),  # type: ignore[assignment]
) -> Generator[Any, Any, Any]:
    """For these tests."""
    yield from ()


VERB = Verb(sample, "sample", ("client",), 0, None, False)


def bind(text: str) -> tuple[list[Any], dict[str, Any]]:
    return VERB.bind(split(text), len(text))


@pytest.mark.parametrize(
    ("text", "operands", "options"),
    [
        ("a", ["a"], {}),
        ("a b c", ["a", "b", "c"], {}),
        ("-l a", ["a"], {"long": True}),
        ("a -l b", ["a", "b"], {"long": True}),
        ("-lr a", ["a"], {"long": True, "recursive": True}),
        ("-R a", ["a"], {"recursive": True}),
        ("--recursive --long a", ["a"], {"recursive": True, "long": True}),
        ("-s 4k a", ["a"], {"size": 4096}),
        ("-s4k a", ["a"], {"size": 4096}),
        ("-ls 1M a", ["a"], {"long": True, "size": 1 << 20}),
        ("--size=1k a", ["a"], {"size": 1024}),
        ("--size 1k a", ["a"], {"size": 1024}),
        ("-n x --name=y -n z a", ["a"], {"names": ["x", "y", "z"]}),
        ("-- -l", ["-l"], {}),
        ("-", ["-"], {}),
    ],
)
def test_options(text: str, operands: list[str], options: dict[str, Any]) -> None:
    assert bind(text) == (operands, options)


@pytest.mark.parametrize(
    ("text", "start", "what"),
    [
        ("a -x", 2, "sample has no option '-x'"),
        ("a --lnog", 2, "sample has no option '--lnog', did you mean '--long'?"),
        ("a --long=1", 2, "sample: '--long' takes no value"),
        ("a -s", 2, "sample: '-s' needs a value"),
        ("a -s big", 5, "sample: 'big' is no size"),
        ("-l", 2, "sample needs FIRST"),
    ],
)
def test_mistakes(text: str, start: int, what: str) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        bind(text)
    assert caught.value.start == start
    assert caught.value.what.startswith(what)


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_verb_has_a_schema_and_a_manual_with_its_usage(name: str) -> None:
    verb = VERBS[name]
    schema = verb.schema
    sentence, blank, usage = verb.manual.splitlines()[:3]
    assert sentence[0].isupper()
    assert blank == ""
    assert usage.split()[: len(name.split())] == name.split()
    assert set(verb.on) <= {"client", "mds", "oss", "mgs"}
    for option in schema.options:
        assert option.startswith("-")


@pytest.mark.parametrize(
    "text",
    [
        "touch -c -a -m -d @5 f", "mkdir -p -v -m 755 d", "rmdir -p d", "rm -rf d f", "mv -n a b",
        "ln -sfn a b", "stat -c %s -L f", "ls -laA1dinR f", "cat f g", "cp -rpf a b",
        "dd if=/dev/zero of=f bs=1M count=4 skip=1 seek=2 conv=notrunc,fsync oflag=append,sync",
        "truncate -s +4M f", "chmod -R u=rwX,go-w d", "chown -R -h 1:2 f", "chgrp 5 f",
        "setfattr -n user.a -v 0x00ff f", "setfattr -x user.a -h f",
        "getfattr -n user.a --only-values f", "getfattr -d -m - -e hex -h --absolute-names f",
        "df -i", "df --output=size,used .", "echo -n a b", "sleep 0.5", "sync", "true", "false",
        "sysctl vm.drop_caches=3", "echo 3 > /proc/sys/vm/drop_caches",
        "lfs setstripe -c -1 -S 4M -i 0 f", "lfs getstripe -c -S -i f", "lfs df", "lfs path2fid f",
        "lctl get_param -n osc.*.stats", "lctl set_param osc.*.active=0", "lctl list_param -FR osc",
        "lctl dl", "runas -u 500 -g 600 touch f", "sys setxattr f user.a v XATTR_REPLACE",
        "sys open f O_RDWR|O_CREAT 0644", "sys mknod p 010644", "sys pwrite f 0xff 4k",
    ],
)  # fmt: skip
def test_what_people_type_is_understood(text: str) -> None:
    assert steps.check(text, "client") == []


def test_a_server_has_lctl_but_no_files() -> None:
    assert steps.check("lctl get_param mdt.*.*", "mds") == []
    assert steps.check("lctl set_param -P osc.*.active=1", "mgs") == []
    with pytest.raises(InputError, match="runs on a client"):
        steps.check("ls", "oss")
    with pytest.raises(InputError, match="only a client can write"):
        steps.check("lctl dl > f", "oss")


def test_variables_are_told_with_their_words() -> None:
    used = steps.check("echo $a > ${b}", "client")
    assert [(word.start, name) for word, name in used] == [(5, "a"), (10, "b")]
    assert [name for _, name in steps.check("truncate -s $size f", "client")] == ["size"]
