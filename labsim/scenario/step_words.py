"""The words of a wait, and what other steps' words share.

Does not know YAML nodes nor how a step is carried out; turns words into the model and says which
field is wrong. The words of a net step are in `net_words`, those that break things in
`fault_words`.
"""

from __future__ import annotations

import msgspec

from labsim.base.errors import InputError
from labsim.scenario import model
from labsim.scenario.suggest import nearest

POWER = ("kill", "kill -9", "start", "power-cycle", "mount", "umount")
"""What a node's power switch and its administrator can do, as a step says it."""

IMPORT_STATES = (
    "CLOSED", "NEW", "DISCONN", "CONNECTING", "REPLAY", "REPLAY_LOCKS", "REPLAY_WAIT", "RECOVER",
    "FULL", "EVICTED", "IDLE",
)  # fmt: skip


class BadField(InputError):
    """One field of a step is wrong."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(what)
        self.field = field


def pattern(expect: str | None) -> str | None:
    """The expression in /regex/; None where the text is meant exactly."""
    if expect is not None and len(expect) > 1 and expect[0] == expect[-1] == "/":
        return expect[1:-1]
    return None


# ---- wait


class WaitWords(msgspec.Struct, frozen=True, kw_only=True):
    """`wait: {import: FULL, on: c0}` or `wait: {param: .., is: .., on: c0}`."""

    on: str
    import_: str = msgspec.field(name="import", default="")
    target: str = ""
    param: str = ""
    shows: str = msgspec.field(name="is", default="")
    within: model.Nanoseconds = model.Nanoseconds(model.STEP_TIMEOUT_NS)


def wait(words: WaitWords, cluster: model.ClusterSpec, line: int) -> model.Wait:
    """A wait for a state."""
    known_node("on", words.on, cluster)
    if bool(words.import_) == bool(words.param):
        raise BadField("", "say what to wait for: a time (30s), import: STATE, or param: and is:")
    if words.import_ and words.import_ not in IMPORT_STATES:
        what = f"unknown import state '{words.import_}'{nearest(words.import_, IMPORT_STATES)}"
        raise BadField("import", what)
    return model.Wait(
        line=line,
        import_=words.import_,
        param=words.param,
        shows=words.shows,
        on=words.on,
        target=words.target,
        within_ns=words.within,
    )


def known_node(field: str, name: str, cluster: model.ClusterSpec) -> None:
    """Raise BadField for a node that the cluster does not have."""
    if cluster.role(name) is None:
        raise BadField(field, f"unknown node '{name}'{nearest(name, cluster.nodes())}")


WAIT = (WaitWords, wait)
