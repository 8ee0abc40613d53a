"""`labsim verbs`: the words that a step may use.

Does not know what a verb or another step does; shows its manual.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from labsim.base.errors import InputError
from labsim.cli.common import json_option, print_json


@click.command("verbs", epilog="Example: labsim verbs setfattr")
@click.argument("names", nargs=-1, metavar="[VERB...]")
@json_option
def command(names: tuple[str, ...], as_json: bool) -> int:
    """List the verbs and the other steps of scenarios, or show the manual of some."""
    from labsim.scenario.manual import STEPS
    from labsim.scenario.steps import VERBS
    from labsim.scenario.suggest import nearest

    manuals = {name: VERBS[name].manual for name in sorted(VERBS)}
    known = manuals | STEPS
    for name in names:
        if name not in known:
            raise InputError(f"no verb '{name}'{nearest(name, known)}")
    if as_json:
        print_json([_plain(name, known[name], VERBS) for name in names or known])
        return 0
    if names:
        click.echo("\n\n".join(known[name] for name in names))
        return 0
    width = max(map(len, known))
    for title, words in (("Commands of a node:", manuals), ("Other steps:", STEPS)):
        click.echo(title)
        for name, manual in words.items():
            click.echo(f"  {name:{width}}  {manual.splitlines()[0]}")
    return 0


def _plain(name: str, manual: str, verbs: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the JSON; only a command's has the nodes that it is for."""
    row = {"name": name, "manual": manual}
    return row | ({"on": verbs[name].on} if name in verbs else {})
