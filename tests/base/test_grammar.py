"""How written text is read, by each generation of procfs and sysfs."""

from __future__ import annotations

import errno

import pytest

from labsim.base.errors import LustreError
from labsim.base.grammar import GRAMMARS

MIB = 1 << 20
REFUSED = "EINVAL"
RANGE = "ERANGE"


def read(grammar: str, text: str, scale: int = 1) -> int | str:
    """The value, or the name of the errno."""
    try:
        return GRAMMARS[grammar](text, scale)
    except LustreError as error:
        return error.name


@pytest.mark.parametrize(
    ("text", "lax", "strict", "kernel"),
    [
        ("12", 12, 12, 12),
        ("12\n", 12, 12, 12),
        ("-3", -3, -3, REFUSED),
        ("+3", REFUSED, REFUSED, 3),
        ("0x10", 0, 16, REFUSED),
        ("12 locks", 12, REFUSED, REFUSED),
        ("12\n\n", 12, REFUSED, REFUSED),
        ("1.5", 1, 1, REFUSED),
        ("8M", 8, REFUSED, REFUSED),
        ("", REFUSED, REFUSED, REFUSED),
        ("\n", REFUSED, REFUSED, REFUSED),
        ("locks", REFUSED, REFUSED, REFUSED),
        ("1_0", 1, REFUSED, REFUSED),
        ("4294967296", 1 << 32, 1 << 32, RANGE),
        ("9" * 19, 10**19 - 1, RANGE, RANGE),
        ("9" * 30, REFUSED, REFUSED, RANGE),
    ],
)
def test_numbers(text: str, lax: int | str, strict: int | str, kernel: int | str) -> None:
    assert read("lax", text) == lax
    assert read("strict", text) == strict
    assert read("kstrtouint10", text) == kernel


@pytest.mark.parametrize(
    ("text", "lax", "strict", "memparse", "kernel"),
    [
        ("64", 64 * MIB, 64 * MIB, 64 * MIB, 64 * MIB),
        ("64M", 64 * MIB, 64 * MIB, 64 * MIB, REFUSED),
        ("12.5", 12 * MIB + MIB // 2, 12 * MIB + MIB // 2, 12 * MIB + MIB // 2, REFUSED),
        (".5", REFUSED, MIB // 2, REFUSED, REFUSED),
        ("1.5G", 1536 * MIB, 1536 * MIB, 1536 * MIB, REFUSED),
        ("512k", MIB // 2, MIB // 2, MIB // 2, REFUSED),
        ("64MiB", 64 * MIB, REFUSED, 64 * MIB, REFUSED),
        ("1MB", MIB, REFUSED, 1_000_000, REFUSED),
        ("4096B", 4096 * MIB, REFUSED, 4096, REFUSED),
        ("50%", 50 * MIB, 50, REFUSED, REFUSED),
        ("64Q", 64 * MIB, REFUSED, REFUSED, REFUSED),
        ("64M\n", 64 * MIB, 64 * MIB, 64 * MIB, REFUSED),
        ("M", REFUSED, REFUSED, REFUSED, REFUSED),
        ("1.1234", 1177970, 1177970, MIB + 123 * MIB // 1000, REFUSED),
        ("17E", 17 * MIB, REFUSED, "EOVERFLOW", REFUSED),
    ],
)
def test_sizes(
    text: str, lax: int | str, strict: int | str, memparse: int | str, kernel: int | str
) -> None:
    assert read("lax_units", text, MIB) == lax
    assert read("strict_units", text, MIB) == strict
    assert read("memparse", text, MIB) == memparse
    assert read("kstrtoul10", text, MIB) == kernel


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("0", 0), ("y", 1), ("No", 0), ("on", 1), ("off\n", 0), ("yes", 1), ("nah", 0),
        ("2", REFUSED), ("o", REFUSED), ("true", REFUSED), ("", REFUSED), ("1x", 1),
    ],
)  # fmt: skip
def test_flags(text: str, value: int | str) -> None:
    assert read("kstrtobool", text) == value


@pytest.mark.parametrize(
    ("grammar", "text", "value"),
    [
        ("kstrtouint", "0x20", 32),
        ("kstrtouint", "010", 8),
        ("kstrtouint", "08", REFUSED),
        ("kstrtouint", "0", 0),
        ("kstrtoint", "-0x1", -1),
        ("kstrtoint", "2147483648", RANGE),
        ("kstrtou1610", "65536", RANGE),
        ("kstrtou8", "255", 255),
        ("kstrtoul", "--1", REFUSED),
        ("kstrtoul", "+", REFUSED),
        ("kstrtoul", "1 ", REFUSED),
        ("kstrtoul", "\N{ARABIC-INDIC DIGIT ONE}", REFUSED),
        ("milliseconds", "3900ms", 3900),
        ("milliseconds", "3900", 3900),
        ("milliseconds", "3900s", REFUSED),
    ],
)
def test_the_kernels_integers(grammar: str, text: str, value: int | str) -> None:
    assert read(grammar, text) == value


def test_an_error_names_the_text() -> None:
    with pytest.raises(LustreError, match="64Q") as caught:
        GRAMMARS["strict_units"]("64Q", MIB)
    assert caught.value.errno == errno.EINVAL
