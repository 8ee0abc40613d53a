"""What one file of the reference model holds: for each byte range which writes it may show.

Pure values; does not know calls or names. After a failure it is not known whether a write
happened: then a range has several candidates, and the next read says which one it was. `under` is
what comes back when the client that wrote last loses its cache before it was written back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from labsim.base.payload import Fill, Payload, piece, tobytes

HOLE = 0
"""The candidate that reads as zeros."""
ANYTHING = -1
"""The candidate that reads as whatever it is: all was lost with a server and a client."""

PAGE = 4096
"""What is lost is lost by the page."""

MANY = 64
"""With more candidates than this, a range or size is taken for anything."""


class Source(NamedTuple):
    """A write that a candidate stands for: where its first byte went, and its data."""

    offset: int
    data: Payload


Sources = Mapping[int, Source]


class Range(NamedTuple):
    """Bytes start to end, what they may show, and what they go back to if `owner` is lost.

    What is `sent` is at its OST: it is lost only with the OST's power and an owner not heard again.
    """

    start: int
    end: int
    shows: tuple[int, ...]
    owner: str = ""
    under: tuple[int, ...] = ()
    sent: bool = False


class Content(NamedTuple):
    """A file's possible sizes, and its ranges in order; between them there are holes.

    `lost` are sizes that come back when `owner` loses its cache; as with a range, if `sent`, only
    when the OST does not hear of it again.
    """

    sizes: tuple[int, ...] = (0,)
    ranges: tuple[Range, ...] = ()
    owner: str = ""
    lost: tuple[int, ...] = ()
    sent: bool = False


EMPTY = Content()
UNKNOWN = Content((ANYTHING,), (Range(0, 1 << 63, (ANYTHING,)),))


def union(one: Iterable[int], other: Iterable[int]) -> tuple[int, ...]:
    """Candidates of both, in order."""
    found = tuple(sorted({*one, *other}))
    if ANYTHING in found or len(found) > MANY:
        return (ANYTHING,)
    return found


# ---- ranges


def _cut(ranges: Iterable[Range], start: int, end: int) -> tuple[list[Range], list[Range]]:
    """(ranges outside, ranges inside) of a span, those at its borders in two."""
    outside: list[Range] = []
    inside: list[Range] = []
    for one in ranges:
        if one.end <= start or one.start >= end:
            outside.append(one)
            continue
        if one.start < start:
            outside.append(one._replace(end=start))
        if one.end > end:
            outside.append(one._replace(start=end))
        inside.append(one._replace(start=max(one.start, start), end=min(one.end, end)))
    return outside, inside


def _full(inside: Iterable[Range], start: int, end: int) -> list[Range]:
    """The ranges of a span with its holes filled in."""
    found: list[Range] = []
    at = start
    for one in sorted(inside):
        if one.start > at:
            found.append(Range(at, one.start, (HOLE,)))
        found.append(one)
        at = one.end
    if at < end:
        found.append(Range(at, end, (HOLE,)))
    return found


def _joined(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Ranges in order, equal neighbours as one, plain holes left out.

    Neighbours that may show several things stay apart: what one shows says nothing of the other.
    """
    found: list[Range] = []
    for one in sorted(ranges):
        if one.start >= one.end or (one.shows == (HOLE,) and not one.owner):
            continue
        last = found[-1] if found else None
        alike = last is not None and last.end == one.start and last[2:] == one[2:]
        if last is not None and alike and len(one.shows) == 1 and len(one.under) <= 1:
            found[-1] = last._replace(end=one.end)
        else:
            found.append(one)
    return tuple(found)


# ---- what calls do to it


def write(
    content: Content, number: int, start: int, end: int, client: str, sure: bool = True
) -> Content:
    """The content after write `number` of a client; not `sure`: it may have happened."""
    outside, inside = _cut(content.ranges, start, end)
    made = []
    for one in _full(inside, start, end):
        shows = (number,) if sure else union(one.shows, (number,))
        kept = one.under if one.owner == client else ()
        made.append(Range(one.start, one.end, shows, client, union(one.shows, kept)))
    grown = tuple(size if size == ANYTHING else max(size, end) for size in content.sizes)
    return _sized(content, grown, client, sure)._replace(ranges=_joined([*outside, *made]))


def truncate(content: Content, size: int, client: str, sure: bool = True) -> Content:
    """The content after a truncate of a client; the MDT and the OSTs know of it at once."""
    top = max(1 << 63, size)
    outside, inside = _cut(content.ranges, size, top)
    cut = []
    for one in inside:
        kept = one.under if one.owner == client else ()
        shows = (HOLE,) if sure else union(one.shows, (HOLE,))
        cut.append(Range(one.start, one.end, shows, client, union(one.shows, kept), sent=True))
    after = _sized(content, (size,), client, sure)._replace(sent=True)
    return after._replace(ranges=_joined([*outside, *cut]))


def _sized(content: Content, sizes: tuple[int, ...], client: str, sure: bool) -> Content:
    kept = content.lost if content.owner == client else ()
    if not sure:
        sizes = union(content.sizes, sizes)
    lost = union(content.sizes, kept)
    return content._replace(sizes=union(sizes, ()), owner=client, lost=lost, sent=False)


def lose(content: Content, client: str, power: bool = False) -> Content:
    """The client's cache is gone: what it wrote and had not written back may be gone too.

    With `power` an OST has lost its own, and forgets also what the client had written back.
    """
    ranges = [
        one._replace(shows=union(one.shows, one.under), owner="", under=(), sent=False)
        if one.owner == client and (power or not one.sent)
        else one
        for one in content.ranges
    ]
    sizes = content.sizes
    if content.owner == client and (power or not content.sent):
        sizes = union(sizes, content.lost)
        content = content._replace(owner="", lost=(), sent=False)
    return content._replace(sizes=sizes, ranges=_joined(ranges))


def keep(content: Content, client: str) -> Content:
    """The client has written everything back."""
    ranges = [
        one._replace(owner="", under=(), sent=False) if one.owner == client else one
        for one in content.ranges
    ]
    if content.owner == client:
        content = content._replace(owner="", lost=(), sent=False)
    return content._replace(ranges=_joined(ranges))


# ---- what calls see of it


class Seen(NamedTuple):
    """What a read makes of a content: the content narrowed down, or what it should have read."""

    content: Content
    wrong: str = ""


def read(
    content: Content, start: int, length: int, data: Payload, sources: Sources, client: str
) -> Seen:
    """Compare what was read: `data` of at most `length` bytes from `start` on."""
    got = len(data)
    sizes = tuple(size for size in content.sizes if _fits(size, start, length, got))
    if not sizes:
        told = " or ".join(str(max(0, min(size - start, length))) for size in content.sizes)
        return Seen(content, f"{got} bytes read at {start}, expected {told}")
    if sizes == (ANYTHING,) and got < length and got:
        sizes = (start + got,)
    outside, inside = _cut(content.ranges, start, start + got)
    made = []
    for one in _by_page(_full(inside, start, start + got)):
        part = piece(data, one.start - start, one.end - start)
        shows = _matching(one, part, sources)
        if not shows:
            return Seen(content, _difference(one, part, sources))
        other = one.owner and one.owner != client
        if other:
            one = one._replace(sent=True)
        made.append(one._replace(shows=shows))
    return Seen(content._replace(sizes=sizes, ranges=_joined([*outside, *made])))


def _by_page(ranges: Iterable[Range]) -> Iterator[Range]:
    """Ranges, those of which it is not known what they show page by page: so much may be lost."""
    for one in ranges:
        while len(one.shows) > 1 and one.end > (edge := (one.start // PAGE + 1) * PAGE):
            yield one._replace(end=edge)
            one = one._replace(start=edge)
        yield one


def _fits(size: int, start: int, length: int, got: int) -> bool:
    return size == ANYTHING or max(0, min(size - start, length)) == got


def _matching(one: Range, part: Payload, sources: Sources) -> tuple[int, ...]:
    if one.shows == (ANYTHING,):
        return one.shows
    return tuple(number for number in one.shows if shown(one, number, sources) == part)


def shown(one: Range, number: int, sources: Sources) -> Payload:
    """The bytes of a range as one candidate has them."""
    if number == HOLE:
        return Fill(one.end - one.start)
    source = sources[number]
    return piece(source.data, one.start - source.offset, one.end - source.offset)


def _difference(one: Range, part: Payload, sources: Sources) -> str:
    """In one sentence, the first byte of a range that no candidate has."""
    read = tobytes(part)
    best = max(_common(read, tobytes(shown(one, n, sources))) for n in one.shows)
    names = " or ".join("zeros" if n == HOLE else f"write #{n}" for n in one.shows)
    where = f"byte {one.start + best}"
    return f"{where} reads {read[best : best + 8].hex()}.., expected {names}"


def _common(one: bytes, other: bytes) -> int:
    """How many bytes at the start are the same."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def stat(content: Content, size: int) -> Seen:
    """Compare a size that was told."""
    if content.sizes == (ANYTHING,):
        return Seen(content._replace(sizes=(size,)))
    if size not in content.sizes:
        told = " or ".join(map(str, content.sizes))
        return Seen(content, f"size {size}, expected {told}")
    return Seen(content._replace(sizes=(size,)))
