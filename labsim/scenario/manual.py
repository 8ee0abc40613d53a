"""The manual of the steps that are no commands: how each is written, and what it does.

Text only; what the words mean is in `step_words`, `net_words` and `fault_words`. The verbs of
commands carry their own manuals.
"""

from __future__ import annotations

from collections.abc import Mapping

STEPS: Mapping[str, str] = {
    "parallel": """Commands and power switches at once; the step ends with the last of them.

parallel: [{c0: mkdir d}, {c1: mkdir d}, {oss0: power-cycle}]""",
    "background": """A command that goes on beside the steps that follow.

c0: dd if=/dev/zero of=f bs=1M count=9
background: NAME
It is judged when it ends, and some step must wait for it: wait: NAME""",
    "sequence": """Steps one after the other, beside the steps that follow.

sequence: [{c0: mkdir d}, {wait: 1s}, {c0: rmdir d}]
background: NAME""",
    "wait": """Wait for a time, a background step, an import's state or a parameter's text.

wait: 30s
wait: NAME
wait: {import: FULL, on: c0, target: lustre-OST0000, within: 60s}
wait: {param: osc.*.active, is: 1, on: c0}""",
    "power": """Take a node's power, or Lustre on it, away or give it back.

NODE: kill | kill -9 | start | power-cycle | umount | mount
What was not committed when the power went is gone. power-cycle kills and starts.""",
    "net": """Change what the network does between nodes, until heal.

net: partition NODES | NODES
net: drop NODES -> NODES [FILTER...]
net: delay NODES -> NODES TIME [FILTER...]
net: reorder NODES -> NODES TIME [FILTER...]
net: duplicate NODES -> NODES [TIME] [FILTER...]
net: heal
-> is one way, | and <-> both; NODES are nodes, targets (OST0001: its node) and NIDs with commas
between, or *. reorder holds each packet for a drawn part of TIME, so that others overtake it; the
copy of a duplicate comes TIME later. FILTER is opc=, portal=, kind=, rate=, skip= or count=.""",
    "fault": """Arm a fault point on a node, or take it back; several may be armed.

fault: {on: oss0, at: OST_BRW_WRITE_BULK, do: delay 5s, once: true}
fault: {on: oss0, at: OST_BRW_WRITE_BULK, cure: true}
at is a name or a number with fail_loc's bits; do is delay TIME, fail ERRNO, drop, crash or hold,
else what the point does by itself. once, and one of skip, some, rand and val, say when.""",
    "race": """Have two processes of a node meet, each at its fault point (cfs_race).

race: [mds0:MDS_REINT_DELAY, mds0:MDS_INTENT_DELAY]
Who comes first waits for the other. The node may be left out where only one can be meant.""",
    "disk": """Make the disks of a server or of one target slow, full, failing, or well again.

disk: oss0 slow 50ms | OST0001 full | oss0 eio | oss0 readonly | oss0 ok""",
    "clock": """Set a node's date forwards or backwards; its timers do not notice.

clock: c0 jump 1h | c0 jump -10m""",
    "fail": """Move a server's targets to its partner, or back home.

fail: oss0 to oss1
fail: oss0 back""",
}
