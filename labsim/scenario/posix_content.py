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

NOT_YET = 1 << 62
"""When something was sent that may not have been."""

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

    What is at its OST since `sent_ns` is lost only with the OST's power, before it was on disk, and
    an owner not heard again.
    """

    start: int
    end: int
    shows: tuple[int, ...]
    owner: str = ""
    under: tuple[int, ...] = ()
    sent_ns: int = NOT_YET


class Content(NamedTuple):
    """A file's possible sizes, and its ranges in order; between them there are holes.

    `lost` are sizes that come back when `owner` loses its cache; what was sent as with a range.
    """

    sizes: tuple[int, ...] = (0,)
    ranges: tuple[Range, ...] = ()
    owner: str = ""
    lost: tuple[int, ...] = ()
    sent_ns: int = NOT_YET


class Loss(NamedTuple):
    """What a client has lost: its cache, and what it had sent since then to an OST that lost it.

    `target` is the OST's index; None: of all OSTs.
    """

    client: str
    target: int | None = None
    since_ns: int = NOT_YET


class Place(NamedTuple):
    """Where a file's data is: bytes a stripe, and the index of each stripe's OST; or not known."""

    stripe_size: int = 1
    osts: tuple[int, ...] = ()

    def on(self, target: int | None) -> bool:
        """Whether anything of the file may be on an OST."""
        return target is None or not self.osts or target in self.osts

    def cut(self, one: Range) -> Iterator[Range]:
        """A range in parts that are on one OST each."""
        while len(set(self.osts)) > 1 and one.end < 1 << 62:
            edge = (one.start // self.stripe_size + 1) * self.stripe_size
            if one.end <= edge:
                break
            yield one._replace(end=edge)
            one = one._replace(start=edge)
        yield one

    def ost(self, offset: int) -> int | None:
        """The OST that a byte is on; None: any of several."""
        if len(set(self.osts)) == 1:
            return self.osts[0]
        if not self.osts or offset >= 1 << 61:
            return None
        return self.osts[offset // self.stripe_size % len(self.osts)]

    def ends(self, size: int) -> Iterator[int]:
        """Where the last byte of each stripe ends in a file of that size, if it has any.

        A call that failed may have reached the OST of one stripe and not that of another.
        """
        if size == ANYTHING or len(set(self.osts)) < 2:
            return
        row = self.stripe_size * len(self.osts)
        rows, rest = divmod(size, row)
        for start in range(0, row, self.stripe_size):
            if rest > start:
                yield rows * row + min(rest, start + self.stripe_size)
            elif rows:
                yield (rows - 1) * row + start + self.stripe_size


ANYWHERE = Place()

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
    content: Content,
    number: int,
    start: int,
    end: int,
    client: str,
    sure: bool = True,
    places: Iterable[Place] = (),
) -> Content:
    """The content after write `number` of a client; not `sure`: it may have happened, or a part."""
    outside, inside = _cut(content.ranges, start, end)
    made = []
    for one in _full(inside, start, end):
        shows = (number,) if sure else union(one.shows, (number,))
        kept = one.under if one.owner == client else ()
        made.append(Range(one.start, one.end, shows, client, union(one.shows, kept)))
    grown = tuple(size if size == ANYTHING else max(size, end) for size in content.sizes)
    if not sure:
        least = min(content.sizes)
        ends = [one for place in places for one in place.ends(end)]
        grown = union(grown, (one for one in ends if start < one and least < one))
    return _sized(content, grown, client, sure)._replace(ranges=_joined([*outside, *made]))


def truncate(
    content: Content,
    size: int,
    client: str,
    at_ns: int,
    sure: bool = True,
    places: Iterable[Place] = (),
) -> Content:
    """The content after a truncate of a client; the MDT and the OSTs know of it at once.

    Not `sure`: it may have happened, or a part.
    """
    top = max(1 << 63, size)
    outside, inside = _cut(content.ranges, size, top)
    cut = []
    for one in inside:
        kept = one.under if one.owner == client else ()
        shows = (HOLE,) if sure else union(one.shows, (HOLE,))
        under = union(one.shows, kept)
        cut.append(Range(one.start, one.end, shows, client, under, at_ns))
    sizes: tuple[int, ...] = (size,)
    if not sure:
        known = (*content.sizes, size)
        sizes = union(sizes, (e for place in places for one in known for e in place.ends(one)))
    after = _sized(content, sizes, client, sure)._replace(sent_ns=at_ns)
    return after._replace(ranges=_joined([*outside, *cut]))


def _sized(content: Content, sizes: tuple[int, ...], client: str, sure: bool) -> Content:
    kept = content.lost if content.owner == client else ()
    if not sure:
        sizes = union(content.sizes, sizes)
    lost = union(content.sizes, kept)
    return content._replace(sizes=union(sizes, ()), owner=client, lost=lost, sent_ns=NOT_YET)


def lose(content: Content, loss: Loss, place: Place = ANYWHERE) -> Content:
    """A client's cache is gone: what it wrote and had not written back may be gone too.

    So may be what it had sent to an OST that lost its power before that was on disk.
    """
    if not place.on(loss.target):
        return content
    ranges = []
    for whole in content.ranges:
        if whole.owner != loss.client or whole.sent_ns < loss.since_ns:
            ranges.append(whole)
            continue
        for one in place.cut(whole):
            if loss.target is None or place.ost(one.start) in (None, loss.target):
                one = Range(one.start, one.end, union(one.shows, one.under))
            ranges.append(one)
    if content.owner == loss.client and content.sent_ns >= loss.since_ns:
        sizes = union(content.sizes, content.lost)
        if len(set(place.osts)) > 1:  # what is left of the others may be in between
            sizes = union(sizes, (one.end for one in ranges if one.end < max(sizes)))
        content = Content(sizes)
    return content._replace(ranges=_joined(ranges))


def keep(content: Content, client: str) -> Content:
    """The client has written everything back."""
    ranges = [
        one._replace(owner="", under=(), sent_ns=NOT_YET) if one.owner == client else one
        for one in content.ranges
    ]
    if content.owner == client:
        content = content._replace(owner="", lost=(), sent_ns=NOT_YET)
    return content._replace(ranges=_joined(ranges))


# ---- what calls see of it


class Seen(NamedTuple):
    """What a read makes of a content: the content narrowed down, or what it should have read."""

    content: Content
    wrong: str = ""


def read(
    content: Content,
    start: int,
    length: int,
    data: Payload,
    sources: Sources,
    client: str,
    at_ns: int,
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
    made, sent_ns = [], content.sent_ns
    for one in _by_page(_full(inside, start, start + got)):
        part = piece(data, one.start - start, one.end - start)
        shows = _matching(one, part, sources)
        if not shows:
            return Seen(content, _difference(one, part, sources))
        if one.owner and one.owner != client and one.sent_ns == NOT_YET:
            one = one._replace(sent_ns=at_ns)
            if one.owner == content.owner and (one.end,) == sizes:
                sent_ns = min(sent_ns, at_ns)
        made.append(one._replace(shows=shows))
    ranges = _joined([*outside, *made])
    return Seen(content._replace(sizes=sizes, ranges=ranges, sent_ns=sent_ns))


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
