"""A scenario's YAML nodes as the typed model, checked as far as can be before anything runs.

Does not know files. Commands are parsed against their verbs, trees and branches looked up, regular
expressions compiled, variables traced to the step that saves them.
"""

from __future__ import annotations

import re
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from labsim import trees
from labsim.base.errors import NAMES, InputError
from labsim.base.units import parse_duration
from labsim.scenario import fault_words, model, net_words, step_words, steps, suites
from labsim.scenario.decode import WRONG, Decoder, blamed, items, place
from labsim.scenario.suggest import nearest
from labsim.scenario.words import SyntaxProblem
from labsim.trees.history import History

FORMAT = 1
KEYS = (
    "labsim", "ticket", "title", "history", "covers", "cluster", "steps", "virtual_time", "strict",
    "notes",
)  # fmt: skip
OTHER_STEPS = ("wait", "parallel", "net", "fault", "race", "disk", "clock", "fail", "sequence")
EXTRAS = ("expect", "errno", "status", "within", "as", "save", "background", "whatever", "buggy")


class Reader:
    """Reads the nodes of one file; `decoder.problems` says what is wrong with them."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self.decoder = Decoder(_SPECIAL)
        self.cluster = model.ClusterSpec()
        self.saved: set[str] = set()
        self.background: dict[str, Node] = {}
        """Steps that nothing waits for yet."""

    def scenario(self, root: Node) -> model.Scenario | None:
        """The whole file, None where anything is wrong."""
        decoder = self.decoder
        pairs = decoder.pairs(root, KEYS)
        self._format(root, pairs)
        values: dict[str, Any] = {}
        for name, kind in (
            ("ticket", str),
            ("title", str),
            ("history", History),
            ("covers", list[model.CoveredTest]),
            ("cluster", model.ClusterSpec),
            ("virtual_time", bool),
            ("strict", bool),
            ("notes", str),
        ):
            if name in pairs:
                values[name] = decoder.read(pairs[name][1], kind)
        if "history" in pairs and values["history"] is not WRONG:
            self._history(pairs["history"][1], values["history"])
        if "covers" in pairs:
            self._covers(pairs)
        if "cluster" in pairs:
            self._trees(pairs["cluster"][1])
            if values["cluster"] is not WRONG:
                self.cluster = values["cluster"]
        for name in ("title", "steps"):
            if isinstance(root, MappingNode) and name not in pairs:
                decoder.wrong(root, f"'{name}' is missing")
        values["steps"] = self.steps(pairs["steps"][1]) if "steps" in pairs else []
        for name, at in self.background.items():
            decoder.wrong(at, f"nothing waits for '{name}'; add the step wait: {name}")
        if decoder.problems:
            return None
        return model.Scenario(**values, name=self.name, path=self.path)

    def _format(self, root: Node, pairs: dict[str, tuple[Node, Node]]) -> None:
        if "labsim" not in pairs:
            if isinstance(root, MappingNode):
                self.decoder.wrong(root, f"'labsim: {FORMAT}' is missing: the format's version")
            return
        version = self.decoder.read(pairs["labsim"][1], int)
        if version not in {FORMAT, WRONG}:
            what = f"format {version} is not known; this is labsim {FORMAT}"
            self.decoder.wrong(pairs["labsim"][1], what)

    # ---- trees

    def _history(self, node: Node, history: History) -> None:
        try:
            trees.validate(history)
        except InputError as error:
            self.decoder.wrong(blamed(node, error.what), error.what)

    def _covers(self, pairs: dict[str, tuple[Node, Node]]) -> None:
        """A behaviour of Lustre has no ticket and no history: every tree must show it."""
        for name in ("ticket", "history"):
            if name in pairs:
                what = f"'{name}' and 'covers' exclude one another: a bug, or a behaviour"
                self.decoder.wrong(pairs[name][0], what)
        if not getattr(pairs["covers"][1], "value", None):
            self.decoder.wrong(pairs["covers"][1], "name a test, as in replay-single 20b")

    def _trees(self, node: Node) -> None:
        for tree_node in _values_of(node, "tree"):
            try:
                if tree_node.value != model.UNDER_TEST:
                    trees.get(tree_node.value)
            except InputError as error:
                self.decoder.wrong(tree_node, error.what)

    # ---- steps

    def steps(self, node: Node) -> list[Any]:
        """The list of steps; what is wrong in one does not hide what is wrong in the next."""
        decoder = self.decoder
        if not hasattr(node, "value") or isinstance(node, (ScalarNode, MappingNode)):
            decoder.wrong(node, "a list of steps is needed here")
            return []
        if not node.value:
            decoder.wrong(node, "there are no steps")
        return [self.step(item) for item in node.value]

    def step(self, node: Node) -> Any:
        """One step, by its first key."""
        decoder = self.decoder
        pairs = decoder.pairs(node)
        if not pairs:
            return WRONG
        first = next(iter(pairs))
        key, value = pairs.pop(first)
        nodes = self.cluster.nodes()
        if first in nodes:
            return self.command(first, value, pairs)
        if first not in OTHER_STEPS:
            if first in EXTRAS:
                return decoder.wrong(
                    key, f"a step starts with its node or kind, not with '{first}'"
                )
            known = nearest(first, [*nodes, *OTHER_STEPS])
            return decoder.wrong(key, f"unknown node or step '{first}'{known}")
        line = place(key).line
        if first == "sequence":
            return self._sequence(value, line, pairs)
        for name, (extra, _) in pairs.items():
            decoder.wrong(extra, f"a {first} step has no '{name}'")
        return getattr(self, f"_{first}")(value, line)

    def command(self, name: str, node: Node, pairs: dict[str, tuple[Node, Node]]) -> Any:
        """`c0: touch f` with its extras."""
        decoder = self.decoder
        text = decoder.read(node, str)
        extras = self._extras(pairs)
        if text is WRONG:
            return WRONG
        line = place(node).line
        role = self.cluster.role(name)
        if text in step_words.POWER:
            for extra, _ in pairs.values():
                decoder.wrong(extra, f"'{text}' has no '{extra.value}'")
            return model.Power(line=line, node=name, action=text)
        works = extras is WRONG or (extras["shows"].errno is None and not extras["shows"].status)
        self._check_words(node, text, role, works)
        if "save" in pairs:
            self.saved.add(pairs["save"][1].value)
        if extras is WRONG:
            return WRONG
        if extras.get("background"):
            self._goes_on(extras["background"], pairs["background"][1])
        return model.Command(line=line, node=name, text=text, **extras)

    def _goes_on(self, name: str, node: Node) -> None:
        """Note a step in the background, for which some step must wait."""
        if name in self.background:
            self.decoder.wrong(node, f"'{name}' runs in the background already")
        self.background[name] = node

    def _sequence(self, node: Node, line: int, pairs: dict[str, tuple[Node, Node]]) -> Any:
        steps = self.steps(node)
        if list(pairs) != ["background"]:
            return self.decoder.wrong(
                node, "a sequence has a name and nothing else: background: NAME"
            )
        name = self._name(pairs["background"][1])
        if name is WRONG or WRONG in steps:
            return WRONG
        self._goes_on(name, pairs["background"][1])
        return model.Sequence(line=line, steps=steps, background=name)

    def _check_words(self, node: Node, text: str, role: str | None, params: bool) -> None:
        """Parse the command now, so that a typo is found before anything runs."""
        try:
            for word, variable in steps.check(text, role, params):
                if variable not in self.saved:
                    known = nearest(variable, self.saved)
                    what = f"nothing was saved as '{variable}' before this step{known}"
                    raise SyntaxProblem(what, word.start)
        except SyntaxProblem as error:
            self.decoder.wrong(node, error.what, error.start)

    def _extras(self, pairs: dict[str, tuple[Node, Node]]) -> Any:
        decoder = self.decoder
        values: dict[str, Any] = {}
        for name, (key, node) in pairs.items():
            if name not in EXTRAS:
                values[name] = decoder.wrong(key, f"unknown key '{name}'{nearest(name, EXTRAS)}")
            if name == "within":
                values["within_ns"] = decoder.read(node, model.Nanoseconds)
            elif name == "as":
                values["user"] = self._user(node)
            elif name in ("save", "background"):
                values[name] = self._name(node)
            elif name == "whatever":
                values["whatever"] = decoder.read(node, bool)
            elif name == "buggy":
                values["buggy"] = decoder.read(node, model.Outcome)
        plain = {k: pairs[k] for k in ("expect", "errno", "status") if k in pairs}
        values["shows"] = self._outcome({k: v for k, (_, v) in plain.items()})
        buggy = values.get("buggy")
        if isinstance(buggy, model.Outcome):
            self._check_outcome(buggy, dict(items(pairs["buggy"][1])))
            if buggy.empty:
                decoder.wrong(
                    pairs["buggy"][1], "say what a buggy tree shows: expect, errno or status"
                )
        return WRONG if WRONG in values.values() else values

    def _outcome(self, nodes: dict[str, Node]) -> Any:
        kinds = {"expect": str, "errno": str, "status": int}
        values = {name: self.decoder.read(node, kinds[name]) for name, node in nodes.items()}
        if WRONG in values.values():
            return WRONG
        outcome = model.Outcome(**values)
        self._check_outcome(outcome, nodes)
        return outcome

    def _check_outcome(self, outcome: model.Outcome, nodes: dict[str, Node]) -> None:
        known = set(NAMES.values())
        if outcome.errno is not None and outcome.errno not in known:
            what = f"unknown errno '{outcome.errno}'{nearest(outcome.errno, known)}"
            self.decoder.wrong(nodes["errno"], what)
        pattern = step_words.pattern(outcome.expect)
        if pattern is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                what = f"not a regular expression: {error}"
                self.decoder.wrong(nodes["expect"], what)

    def _user(self, node: Node) -> Any:
        text = self.decoder.read(node, str)
        if text is WRONG or re.fullmatch(r"root|\d+(:\d+)?", text):
            return text
        return self.decoder.wrong(node, f"'{text}' is no user; write root, UID or UID:GID")

    def _name(self, node: Node) -> Any:
        text = self.decoder.read(node, str)
        if text is WRONG or re.fullmatch(r"[A-Za-z_]\w*", text):
            return text
        return self.decoder.wrong(node, f"'{text}' is no name: a letter, then letters and digits")

    # ---- the other steps

    def _wait(self, node: Node, line: int) -> Any:
        if isinstance(node, ScalarNode):
            if re.match(r"[A-Za-z_]", node.value):
                return self._wait_for(node, line)
            time_ns = self.decoder.read(node, model.Nanoseconds)
            return WRONG if time_ns is WRONG else model.Wait(line=line, time_ns=time_ns)
        return self._built(node, line, step_words.WAIT)

    def _wait_for(self, node: ScalarNode, line: int) -> Any:
        """The end of a background step."""
        name = node.value
        if self.background.pop(name, None) is None:
            known = nearest(name, self.background)
            return self.decoder.wrong(node, f"nothing runs in the background as '{name}'{known}")
        return model.Wait(line=line, background=name)

    def _parallel(self, node: Node, line: int) -> Any:
        steps = self.steps(node)
        good = []
        for step, item in zip(steps, getattr(node, "value", []), strict=False):
            if isinstance(step, model.Command) and step.background:
                self.decoder.wrong(item, "what is parallel is no background step of its own")
            elif isinstance(step, (model.Command, model.Power)):
                good.append(step)
            elif step is not WRONG:
                self.decoder.wrong(item, "only commands and power switches can be parallel")
        return model.Parallel(line=line, steps=good)

    def _net(self, node: Node, line: int) -> Any:
        return self._worded(node, line, model.Net, net_words.net)

    def _disk(self, node: Node, line: int) -> Any:
        return self._worded(node, line, model.Disk, fault_words.disk)

    def _clock(self, node: Node, line: int) -> Any:
        return self._worded(node, line, model.ClockJump, fault_words.clock)

    def _fail(self, node: Node, line: int) -> Any:
        return self._worded(node, line, model.Failover, fault_words.fail)

    def _race(self, node: Node, line: int) -> Any:
        places = self.decoder.items(node, str)
        try:
            return WRONG if places is WRONG else fault_words.race(places, self.cluster, line)
        except InputError as error:
            return self.decoder.wrong(node, error.what)

    def _fault(self, node: Node, line: int) -> Any:
        return self._built(node, line, fault_words.FAULT)

    def _worded(self, node: Node, line: int, kind: Any, read: Any) -> Any:
        """A step from a line of words."""
        text = self.decoder.read(node, str)
        if text is WRONG:
            return WRONG
        try:
            return kind(line=line, text=text, **read(text, self.cluster))
        except SyntaxProblem as error:
            return self.decoder.wrong(node, error.what, error.start)

    def _built(self, node: Node, line: int, build: Any) -> Any:
        """A step from a mapping of words; `build` checks them against the cluster."""
        kind, make = build
        words = self.decoder.struct(node, kind)
        if words is WRONG:
            return WRONG
        try:
            return make(words, self.cluster, line)
        except step_words.BadField as error:
            at = self.decoder.pairs(node).get(error.field, (node, node))[1]
            return self.decoder.wrong(at, error.what)


def _values_of(node: Node, name: str) -> list[Any]:
    """Every scalar under a key of that name, at any depth."""
    found = []
    for key, value in items(node):
        if key == name and isinstance(value, ScalarNode):
            found.append(value)
        found += _values_of(value, name)
    if not isinstance(node, (MappingNode, ScalarNode)):
        found += [value for item in node.value for value in _values_of(item, name)]
    return found


def _clients(decoder: Decoder, node: Node) -> Any:
    """`clients: 2`, or a list with a mapping for each."""
    if not isinstance(node, ScalarNode):
        return decoder.items(node, model.ClientSpec)
    count = decoder.read(node, int)
    return WRONG if count is WRONG else [model.ClientSpec()] * count


def _duration(decoder: Decoder, node: Node) -> int:
    if not isinstance(node, ScalarNode):
        raise InputError("a duration is needed here, as in 30s")
    return parse_duration(node.value)


def _covered(decoder: Decoder, node: Node) -> Any:
    text = decoder.read(node, str)
    return WRONG if text is WRONG else suites.check(text)


_SPECIAL: dict[Any, Any] = {
    model.CoveredTest: _covered,
    model.Nanoseconds: _duration,
    list[model.ClientSpec]: _clients,
}
