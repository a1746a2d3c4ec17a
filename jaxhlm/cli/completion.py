"""The command ``jaxhlm completion``: a script by which a shell completes commands and files."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from jaxhlm.cli.commands import add_command
from jaxhlm.errors import JaxhlmError

__all__ = ["add_completion", "script"]

Shell = Literal["bash", "zsh", "fish"]

DESCRIPTION = """\
bash:  mkdir -p ~/.local/share/bash-completion/completions
       jaxhlm completion bash > ~/.local/share/bash-completion/completions/jaxhlm
zsh:   jaxhlm completion zsh > FOLDER/_jaxhlm       where FOLDER is one of $fpath
fish:  jaxhlm completion fish > ~/.config/fish/completions/jaxhlm.fish

Then open a new shell. The script is plain text that starts no Python; make it anew after an update.
"""


def add_completion(
    parser: argparse.ArgumentParser,
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """Add it to the command line.

    Args:
        parser: of the whole command line.
        commands: what its ``add_subparsers`` returned.
    """
    told = "print a script by which the shell completes this command"
    command = add_command(commands, "completion", told, DESCRIPTION)
    command.add_argument("shell", choices=get_args(Shell), help="your shell")
    command.set_defaults(run=lambda a: print(script(parser, commands.choices.values(), a.shell)))


def script(
    parser: argparse.ArgumentParser, commands: Iterable[argparse.ArgumentParser], shell: Shell
) -> str:
    """What the shell reads; arguments that are paths are completed as files, or as folders.

    Args:
        parser: of the whole command line.
        commands: the parsers of its commands.
        shell: the shell.

    Raises:
        JaxhlmError: shtab is not installed.
    """
    try:
        import shtab
    except ModuleNotFoundError as error:
        told = 'completion needs shtab: pip install "jaxhlm[completion]"'
        raise JaxhlmError(told) from error
    for command in commands:
        for action in command._actions:
            if action.type is Path:
                path = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
                action.complete = path  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell))
