"""The verbs against what the real tools printed: tests/golden/coreutils.txt, to the byte."""

from __future__ import annotations

import re
from pathlib import Path

from labsim.scenario.cluster import Cluster

GOLDEN = Path(__file__).parent.parent / "golden" / "coreutils.txt"


def blocks() -> list[tuple[str, str]]:
    """(command, what follows it in the file)."""
    found = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", GOLDEN.read_text(), re.MULTILINE)
    assert len(found) > 200
    return found


def test_every_command_prints_what_the_real_tool_prints() -> None:
    differ = []
    with Cluster(clients=1) as cluster:
        for command, wanted in blocks():
            result = cluster.client(0).run(command)
            shown = result.output.encode("utf-8", "surrogateescape").decode(
                "utf-8", "backslashreplace"
            )
            if shown and not shown.endswith("\n"):
                shown += "<no newline>\n"
            if result.status:
                shown += f"[{result.status}]\n"
            if shown != wanted:
                differ.append(f"$ {command}\n{shown}--- wanted\n{wanted}")
    assert not differ, "\n".join(differ)
