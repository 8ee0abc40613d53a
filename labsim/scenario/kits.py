"""Kits: what the nodes of a run are built from, and which trees a scenario concerns.

Does not know runtimes. A tree's own part (dialect, traits) comes from `labsim.trees`; the overlays
come from the file beside a scenario, for the trees that have its bug by their history.
"""

from __future__ import annotations

from labsim import trees
from labsim.base.overlay import Kit
from labsim.scenario import model
from labsim.scenario.load import overlay_file, overlays
from labsim.scenario.topology import NodeSpec
from labsim.trees import Presence, Tree


def kit(spec: NodeSpec) -> Kit:
    """The kit of one node: its tree, and those of its overlays that are for this tree."""
    found = []
    for text in spec.overlays:
        path, _, name = text.rpartition("@")
        if name == spec.tree:
            found += overlays(path)
    return trees.kit_for(trees.get(spec.tree), found)


def presence(scenario: model.Scenario, tree: str) -> Presence:
    """Whether a tree has the scenario's bug; a scenario without a history is about no bug."""
    if scenario.history is None:
        return "no"
    return trees.present(scenario.history, trees.get(tree))


def overlay_names(scenario: model.Scenario, names: list[str]) -> list[str]:
    """The overlays of a run on those trees, as `kit` reads them: FILE@TREE."""
    path = overlay_file(scenario)
    if path is None:
        return []
    having = [name for name in names if presence(scenario, name) == "yes"]
    return [f"{path}@{name}" for name in dict.fromkeys(having)]


def around(scenario: model.Scenario) -> list[str]:
    """The trees that tell the story: the last one with the bug, and one without next to it."""
    known = [(tree, presence(scenario, tree.name)) for tree in trees.all_trees()]
    releases = [(tree.name, has) for tree, has in known if tree.family == "release"]
    have = [number for number, (_, has) in enumerate(releases) if has == "yes"]
    if not have:
        return _outside(known)
    first, last = have[0], have[-1]
    after = [name for name, has in releases[last + 1 :] if has == "no"][:1]
    before = [name for name, has in releases[:first] if has == "no"][-1:]
    return [releases[last][0], *(after or before)]


def _outside(known: list[tuple[Tree, Presence]]) -> list[str]:
    """The same for a bug that no release ever had: other trees that have it, and the reference."""
    have = [tree.name for tree, has in known if has == "yes"]
    return [*have[-1:], model.REFERENCE_TREE]
