"""`cxcompress report`: one page for whoever must approve a compressed model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cxcompress.commands.command_line import OneLineParser, run
from cxcompress.errors import InputError


def build_parser() -> OneLineParser:
    """The flags of `cxcompress report`."""
    parse = OneLineParser(
        prog="cxcompress report", description="One self-contained HTML page from the folders of "
        "finished runs: verdict, size, speed, accuracy class by class, who is hurt, figures, and "
        "the commands that repeat it. Prints to PDF.",
        epilog="example: cxcompress report results/uCWS/* --output report.html",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("folders", nargs="+", metavar="RUN_FOLDER",
                       help="folders that commands wrote, compress.py's and any others")
    parse.add_argument("--output", default="report.html", help="the page (report.html)")
    parse.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(report(arguments)), argv)


def report(arguments: argparse.Namespace) -> str:
    """Write the page; returns the line to print.

    Raises:
        InputError: If a folder holds no finished run, or the page exists.
    """
    from cxcompress.reporting.committee_report import committee_page

    output = Path(arguments.output)
    if output.exists() and not arguments.overwrite:
        raise InputError(f"{output}: exists; give --overwrite or another --output")
    committee_page([Path(folder) for folder in arguments.folders]).write(output)
    return f"report  {output}"
