"""A scenario that a program made, as the file that a person would have written.

Knows the steps of random runs only: commands, waits, net, disks, power, sequences. What `load`
reads of the text is the scenario again.
"""

from __future__ import annotations

from typing import Any

import msgspec

from labsim.base.units import format_duration
from labsim.scenario import model
from labsim.scenario.reader import FORMAT


def text_of(scenario: model.Scenario) -> str:
    """The file's text."""
    cluster = scenario.cluster
    partners = f", failover: {cluster.failover}" if cluster.failover else ""
    options = f", options: [{', '.join(cluster.options)}]" if cluster.options else ""
    lines = [
        f"labsim: {FORMAT}",
        f"title: {_quoted(scenario.title)}",
        f"cluster: {{clients: {len(cluster.clients)}, mds: {cluster.mds}, oss: {cluster.oss}, "
        f"osts: {cluster.ost_count}{partners}{options}}}",
    ]
    if scenario.virtual_time:
        lines.append("virtual_time: true")
    if scenario.strict:
        lines.append("strict: true")
    lines.append("steps:")
    for step in scenario.steps:
        lines += _step(step, "  ")
    return "\n".join(lines) + "\n"


def _step(step: Any, margin: str) -> list[str]:
    if isinstance(step, model.Sequence):
        inner = [line for one in step.steps for line in _step(one, margin + "    ")]
        return [f"{margin}- sequence:", *inner, f"{margin}  background: {step.background}"]
    if isinstance(step, model.Command):
        return [f"{margin}- {{{step.node}: {_quoted(step.text)}{_extras(step)}}}"]
    if isinstance(step, model.Power):
        return [f"{margin}- {step.node}: {step.action}"]
    if isinstance(step, model.Failover):
        return [f"{margin}- fail: {step.text}"]
    if isinstance(step, model.Disk):
        return [f"{margin}- disk: {step.text}"]
    if isinstance(step, model.Net):
        return [f"{margin}- net: {_quoted(step.text)}"]
    assert isinstance(step, model.Wait), step
    return [f"{margin}- wait: {step.background or format_duration(step.time_ns)}"]


def _extras(step: model.Command) -> str:
    whatever = ", whatever: true" if step.whatever else ""
    within = f", within: {format_duration(step.within_ns)}" if step.within_ns is not None else ""
    return whatever + within


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
