"""What each change of a `Tx` does to an object that lies in an ordered store of keys.

Does not know which store, or transactions: the caller takes back what a failed change has done.
Stands for the methods of osd-ldiskfs (osd_handler.c, osd_io.c).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Protocol

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.base.payload import Payload
from labsim.storage import records
from labsim.storage.osd import (
    BLOCK,
    SECTOR,
    Attrs,
    Op,
    Space,
    changed,
    check_extent,
    check_key,
    name_bytes,
)
from labsim.storage.records import CHUNK


class Store(Protocol):
    """An ordered map of bytes to bytes, as LMDB's transactions are."""

    def get(self, key: bytes, /) -> Any:
        """A view that is valid until the next change, or None."""
        ...

    def put(self, key: bytes, value: Any, /, *, overwrite: bool = True) -> bool:
        """Set; without `overwrite` False if the key is there."""
        ...

    def delete(self, key: bytes, /) -> bool:
        """Remove; False if it was not there."""
        ...

    def cursor(self) -> Any:
        """`set_range(key)` goes to the first key from there on; `key()`, `value()`, `delete()`."""
        ...


def attrs_of(store: Store, fid: Fid) -> Attrs:
    """An object's attributes; ENOENT."""
    raw = store.get(records.attrs_key(fid))
    if raw is None:
        raise LustreError(errno.ENOENT, str(fid))
    return records.decode_attrs(raw)


def apply(store: Store, space: Space, op: Op) -> None:
    """Make one change."""
    _APPLY[op[0]](store, space, *op[1:])


def _create(store: Store, space: Space, fid: Fid, attrs: Attrs) -> None:
    if not store.put(records.attrs_key(fid), records.encode(attrs), overwrite=False):
        raise LustreError(errno.EEXIST, str(fid))
    space.charge(attrs.blocks, files=1)


def _destroy(store: Store, space: Space, fid: Fid) -> None:
    space.charge(-attrs_of(store, fid).blocks, files=-1)
    prefix = records.fid_key(fid)
    _remove(store, prefix, prefix)


def _set_attrs(store: Store, space: Space, fid: Fid, changes: dict[str, int]) -> None:
    old = attrs_of(store, fid)
    _replace(store, space, fid, old, changed(old, changes))


def _replace(store: Store, space: Space, fid: Fid, old: Attrs, new: Attrs) -> None:
    space.charge(new.blocks - old.blocks)
    store.put(records.attrs_key(fid), records.encode(new))


def _set_xattr(store: Store, _space: Space, fid: Fid, name: str, value: bytes) -> None:
    key = name_bytes(name)
    check_key(key)
    attrs_of(store, fid)
    store.put(records.fid_key(fid) + records.XATTR + key, value)


def _del_xattr(store: Store, _space: Space, fid: Fid, name: str) -> None:
    attrs_of(store, fid)
    key = name_bytes(name)
    if not store.delete(records.fid_key(fid) + records.XATTR + key):
        raise LustreError(errno.ENODATA, f"{fid} {name}")


def _insert(store: Store, _space: Space, fid: Fid, key: bytes, value: bytes, replace: bool) -> None:
    check_key(key)
    attrs_of(store, fid)
    where = records.fid_key(fid) + records.INDEX + key
    if not store.put(where, value, overwrite=replace):
        raise LustreError(errno.EEXIST, f"{fid} {key!r}")


def _delete(store: Store, _space: Space, fid: Fid, key: bytes) -> None:
    attrs_of(store, fid)
    if not store.delete(records.fid_key(fid) + records.INDEX + key):
        raise LustreError(errno.ENOENT, f"{fid} {key!r}")


def _write(store: Store, space: Space, fid: Fid, offset: int, payload: Payload) -> None:
    old = attrs_of(store, fid)
    end = check_extent(offset, len(payload))
    if offset == end:
        return
    prefix = records.fid_key(fid)
    taken = _allocate(store, prefix, *records.block_range(offset, end))
    new = {"size": max(old.size, end), "blocks": old.blocks + taken * (BLOCK // SECTOR)}
    if taken or end > old.size:
        _replace(store, space, fid, old, changed(old, new))
    prefix += records.DATA
    for number, inside, part in records.chunks(offset, payload):
        key = records.numbered(prefix, number)
        value = part
        if len(part) < CHUNK:
            value = records.overlay(store.get(key) or b"", inside, part)
        store.put(key, value)


def _truncate(store: Store, space: Space, fid: Fid, size: int) -> None:
    old = attrs_of(store, fid)
    check_extent(size, 0)
    given = 0
    if size < old.size:
        prefix = records.fid_key(fid)
        number, inside = divmod(size, CHUNK)
        if inside:
            key = records.numbered(prefix + records.DATA, number)
            value = store.get(key)
            if value is not None and len(value) > inside:
                store.put(key, bytes(value[:inside]))
            number += 1
        _remove(store, records.numbered(prefix + records.DATA, number), prefix + records.DATA)
        given = _release(store, prefix, -(-size // BLOCK))
    new = {"size": size, "blocks": old.blocks - given * (BLOCK // SECTOR)}
    _replace(store, space, fid, old, changed(old, new))


def _allocate(store: Store, prefix: bytes, first: int, last: int) -> int:
    """Mark blocks [first, last) as allocated; how many were not."""
    taken = 0
    for group, mask in records.groups(first, last):
        key = records.numbered(prefix + records.BLOCKS, group)
        old = int.from_bytes(store.get(key) or b"", "little")
        if old | mask != old:
            store.put(key, records.mask_bytes(old | mask))
            taken += (old | mask).bit_count() - old.bit_count()
    return taken


def _release(store: Store, prefix: bytes, first: int) -> int:
    """Mark all blocks from `first` on as free; how many were not."""
    prefix += records.BLOCKS
    given = 0
    group, inside = divmod(first, records.GROUP)
    cursor = store.cursor()
    found = cursor.set_range(records.numbered(prefix, group))
    while found and bytes(cursor.key()).startswith(prefix):
        key, old = bytes(cursor.key()), int.from_bytes(cursor.value(), "little")
        keep = (1 << inside) - 1 if key == records.numbered(prefix, group) else 0
        given += (old & ~keep).bit_count()
        if old & keep:
            store.put(key, records.mask_bytes(old & keep))
            found = cursor.set_range(key + b"\0")
        else:
            found = cursor.delete() and bool(cursor.key())
    return given


def _remove(store: Store, start: bytes, prefix: bytes) -> None:
    """Remove all keys from `start` on that begin with `prefix`."""
    cursor = store.cursor()
    found = cursor.set_range(start)
    while found and bytes(cursor.key()).startswith(prefix):
        found = cursor.delete()


_APPLY: dict[str, Callable[..., None]] = {
    "create": _create,
    "destroy": _destroy,
    "set_attrs": _set_attrs,
    "set_xattr": _set_xattr,
    "del_xattr": _del_xattr,
    "insert": _insert,
    "delete": _delete,
    "write": _write,
    "truncate": _truncate,
}
