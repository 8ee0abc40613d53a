"""Kits: what the nodes of a run are built from, and which trees a scenario concerns.

Does not know runtimes. A tree's own part (dialect, traits) comes from `labsim.trees`; the overlays
come from the file beside a scenario, for the trees that have its bug by their history.
"""

from __future__ import annotations

from functools import lru_cache

from labsim import trees
from labsim.base.overlay import Kit, Overlay
from labsim.scenario import model
from labsim.scenario.load import overlay_file, overlays
from labsim.scenario.topology import NodeSpec
from labsim.trees import Presence, Tree


def kit(spec: NodeSpec) -> Kit:
    """The kit of one node: its tree, and what the files in its overlays declare."""
    return _made_of(spec.tree, tuple(o for path in spec.overlays for o in overlays(path)))


@lru_cache(maxsize=128)
def _made_of(tree: str, found: tuple[type[Overlay], ...]) -> Kit:
    """Nodes that are made of the same share what is built from it."""
    return trees.kit_for(trees.get(tree), found)


def presence(scenario: model.Scenario, tree: str) -> Presence:
    """Whether a tree has the scenario's bug; a scenario without a history is about no bug."""
    if scenario.history is None:
        return "no"
    return trees.present(scenario.history, trees.get(tree))


def overlay_files(scenario: model.Scenario, tree: str) -> tuple[str, ...]:
    """The overlay files of a node that runs that tree, as `kit` takes them."""
    path = overlay_file(scenario)
    return (path,) if path is not None and presence(scenario, tree) == "yes" else ()


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
