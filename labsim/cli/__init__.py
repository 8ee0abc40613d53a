"""The command line: `labsim VERB ...`, one file per verb.

Does not know what a verb does; imports it when it is asked for, so that little starts fast.
Exit status: 0 as expected, 1 not as expected, 2 bad input, 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from labsim import __version__
from labsim.base.errors import InputError, LabsimError

VERBS = ("run", "matrix", "trees", "stress", "validate", "verbs", "bench", "wire")
"""Every verb; its command is `labsim.cli.VERB:command`."""

STATUS_BAD_INPUT = 2
STATUS_INTERRUPTED = 130


class Verbs(click.Group):
    """A group whose commands are imported by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of their importance."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one verb."""
        if name not in VERBS:
            return None
        command: click.Command = import_module(f"labsim.cli.{name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click's, with a did-you-mean."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from labsim.scenario.suggest import nearest

            raise InputError(f"no command '{args[0]}'{nearest(args[0], VERBS)}", "labsim")
        return super().resolve_command(ctx, args)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="labsim")
def cli() -> None:
    """A Lustre cluster on your laptop, simulated or live.

    Example: labsim run xattr/lu_10787 --tree 2.10.5 --tree 2.12.0
    """


def main() -> None:
    """The entry point; never returns."""
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: list[str]) -> int:
    """Run one command line; its exit status."""
    try:
        return int(cli(arguments, prog_name="labsim", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return STATUS_BAD_INPUT
    except InputError as error:
        print(error, file=sys.stderr)
        return STATUS_BAD_INPUT
    except LabsimError as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, click.exceptions.Abort):
        print("interrupted", file=sys.stderr)
        return STATUS_INTERRUPTED
    except BrokenPipeError:
        # What is left in the buffer has nowhere to go; let it go there quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
