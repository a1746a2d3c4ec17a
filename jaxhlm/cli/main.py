"""The command ``jaxhlm``."""

from __future__ import annotations

import _thread
import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jaxhlm.cli import article, info
from jaxhlm.cli.bootstrap import add_bootstrap
from jaxhlm.cli.commands import Parser, add_command, add_commands, add_option, two_or_more
from jaxhlm.cli.completion import add_completion
from jaxhlm.cli.figures import figure_folder, write_figures
from jaxhlm.cli.fit import add_fit
from jaxhlm.cli.flags import in_flags
from jaxhlm.cli.output import standard_output
from jaxhlm.core.versions import versions
from jaxhlm.errors import InterruptedFitsWarning, JaxhlmError, JaxhlmWarning, said_by
from jaxhlm.estimation.pipeline import all_or_nothing

__all__ = ["main"]

# What a shell reports of a program that Ctrl-C, or a reader that read no further, has ended.
INTERRUPTED, UNREAD = 130, 141
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
# Seconds that a command has to end in before it is interrupted again.
AGAIN_AFTER = 5.0


ARTICLE = "Example:  jaxhlm article --out companion    (then open companion/index.html)"
INFO = "Example:  jaxhlm info    (what to add to a report of a fault)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 2 for bad input, as a signal's otherwise.

    Of work that is interrupted, what is finished is printed and written, and the status is that of
    an interrupt all the same; 2 if it was a device that was lost.
    """
    arguments, parts = _parsed(argv), list[str]()

    def say(message: str, category: type[JaxhlmWarning]) -> None:
        _say(message, arguments)
        if issubclass(category, InterruptedFitsWarning):
            parts.append(message)
            for timer in interrupts:
                timer.cancel()

    # A line of Python, which warnings otherwise show, is here never the user's.
    with said_by(say), standard_output() as output, _termination_interrupts() as interrupts:
        try:
            arguments.run(arguments)
            output.flush()
            if parts:
                return INTERRUPTED if interrupts else 2
            if interrupts:
                raise KeyboardInterrupt
        except KeyboardInterrupt as stop:
            print(f"jaxhlm: interrupted{''.join(map(str, stop.args))}", file=sys.stderr)
            return INTERRUPTED
        except JaxhlmError as error:
            _say(str(error), arguments)
            return 2
        except OSError as error:
            output.forget()
            where = f"{error.filename}: " if error.filename else ""
            print(f"jaxhlm: {where}{error.strerror or error}", file=sys.stderr)
            return 2
    return UNREAD if output.unread else 0


def _say(message: str, arguments: argparse.Namespace) -> None:
    print(f"jaxhlm: {in_flags(message, vars(arguments))}", file=sys.stderr)


@contextmanager
def _termination_interrupts() -> Iterator[list[threading.Timer]]:
    """Let SIGTERM do what Ctrl-C does, and either end the command.

    That is a program's business, so not the library's. Python drops what a signal raises while it
    is in a destructor or a callback; the command would go on, and end as if nothing had been. So
    it is interrupted again after a while; what is given has an entry for every signal until then.
    """
    pending: list[threading.Timer] = []
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return

    def interrupt(*_: object) -> None:
        pending.append(threading.Timer(AGAIN_AFTER, _thread.interrupt_main))
        pending[-1].daemon = True
        pending[-1].start()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in INTERRUPTS}
    try:
        yield pending
    finally:
        for timer in pending:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for: argparse does not find a file that may be left out after an option."""
    parser = _parser()
    arguments, more = parser.parse_known_args(argv)
    if len(more) == 1 and more[0][:1] != "-" and getattr(arguments, "file", more) is None:
        arguments.file, more = Path(more[0]), []
    if more:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="jaxhlm",
        description="Exact hierarchical linear models, one or very many at once.",
        epilog="jaxhlm COMMAND --help has examples; the first: jaxhlm article --out companion",
    )
    version = f"jaxhlm {versions(('jaxhlm',))['jaxhlm']}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    told = "fit the article's models and check its truth"
    command = add_command(commands, "article", told, ARTICLE)
    add_option(command, "--replicates", 10_000, "data sets to draw", type=two_or_more, metavar="N")
    add_option(command, "--seed", 2345, "seed of the draws", type=_seed, metavar="N")
    command.add_argument(
        "--figures", type=Path, metavar="DIR", help="also write its figures, as PDF and PNG"
    )
    command.add_argument(
        "--out", type=Path, metavar="DIR",
        help="also write its companion: a page of HTML that opens offline, with data and figures; "
        "a tenth of the replicates is drawn for each assumption that it violates",
    )  # fmt: skip
    command.set_defaults(run=_article)

    add_fit(commands)
    add_bootstrap(commands)
    add_commands(commands)
    command = add_command(commands, "info", "versions, devices, default path, cache", INFO)
    command.set_defaults(run=_info)
    add_completion(parser, commands)
    return parser


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, 0 or more")
    return int(text)


def _article(arguments: argparse.Namespace) -> None:
    for folder in filter(None, (arguments.figures, arguments.out)):
        figure_folder(folder)
    with all_or_nothing():
        found = article.run(arguments.replicates, arguments.seed)
    if arguments.figures:
        figures = article.article_figures(found.full)
        write_figures(figures, arguments.figures)
        print(f"\n{len(figures)} figures written to {arguments.figures}")
    if arguments.out:
        # Matplotlib, studies and violations are of no use to the other commands.
        from jaxhlm.cli.companion import write_companion

        n = max(arguments.replicates // 10, 2)
        with all_or_nothing():
            page, *more = write_companion(found, n, arguments.seed, arguments.out)
        print(f"\nThe article's companion is {page}, with {len(more)} files of data and figures")


def _info(_: argparse.Namespace) -> None:
    for line in info.lines():
        print(line)
