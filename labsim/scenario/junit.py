"""Runs as JUnit XML, which CI systems read.

Does not know how a run is made. A run that is not as expected is a failure, an unknown one is
skipped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from labsim.scenario.runner import Run

_NOT_XML = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


def junit_xml(runs: Sequence[Run]) -> str:
    """One test suite with a test case for each run."""
    suite = Element(
        "testsuite",
        name="labsim",
        tests=str(len(runs)),
        failures=str(sum(not made.ok for made in runs)),
        skipped=str(sum(made.ok and made.verdict == "unknown" for made in runs)),
        errors="0",
        time=f"{sum(made.wall_ms for made in runs) / 1000:.3f}",
    )
    for made in runs:
        case = SubElement(
            suite,
            "testcase",
            classname=made.scenario.replace("/", "."),
            name=f"{made.tree} {made.runtime}",
            time=f"{made.wall_ms / 1000:.3f}",
        )
        if made.covers:
            properties = SubElement(case, "properties")
            SubElement(properties, "property", name="covers", value=", ".join(made.covers))
        if not made.ok:
            message = f"{made.verdict}, expected {made.expected}"
            SubElement(case, "failure", message=message).text = _clean(_details(made))
        elif made.verdict == "unknown":
            SubElement(case, "skipped", message="the tree's history does not tell")
    root = Element("testsuites")
    root.append(suite)
    indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _details(made: Run) -> str:
    lines = [
        f"line {step.line}: {step.label}: {step.differs}" for step in made.steps if step.differs
    ]
    return "\n".join([*made.broken, *lines])


def _clean(text: str) -> str:
    """Text without what XML cannot hold."""
    return _NOT_XML.sub("?", text)
