"""`cxcompress app`: the page that shows what a compressed model finds. Needs no TensorFlow."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cxcompress.commands.command_line import OneLineParser, run
from cxcompress.errors import InputError, MissingExtra


def build_parser() -> OneLineParser:
    """The flags of `cxcompress app`."""
    parse = OneLineParser(
        prog="cxcompress app", description="A page for looking at pictures with a compressed "
        "model. It answers on this machine only, sends nothing anywhere and writes nothing.",
        epilog="example: cxcompress app --models my_models",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--models", help="folder of compressed .h5 files to choose from "
                       "(pretrained/ of a clone, else the one that is installed with cxcompress)")
    parse.add_argument("--port", type=int, default=8501, help="of http://localhost (8501)")
    parse.add_argument("--no_browser", action="store_true", help="do not open a browser")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), serve, argv)


def command_line(arguments: argparse.Namespace) -> list[str]:
    """How Streamlit is started: on this machine's own address, without counting its users."""
    page = Path(__file__).resolve().parents[1] / "app" / "page.py"
    settings = {
        "server.address": "localhost", "server.port": arguments.port,
        "server.headless": str(arguments.no_browser).lower(), "server.fileWatcherType": "none",
        "server.maxUploadSize": 500, "browser.gatherUsageStats": "false",
        "runner.magicEnabled": "false", "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none"}
    return [sys.executable, "-m", "streamlit", "run", str(page),
            *(part for name, value in settings.items() for part in (f"--{name}", str(value)))]


def serve(arguments: argparse.Namespace) -> None:
    """Serve until interrupted.

    Raises:
        InputError: If the folder does not exist or the port is none.
        MissingExtra: If Streamlit is not installed.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise MissingExtra("streamlit", "app")
    if not 1024 <= arguments.port <= 65535:
        raise InputError(f"--port {arguments.port}: give 1024 to 65535")
    environment = dict(os.environ)
    if arguments.models:
        if not Path(arguments.models).is_dir():
            raise InputError(f"--models {arguments.models}: no such folder")
        environment["CXCOMPRESS_APP_MODELS"] = str(Path(arguments.models).resolve())
    print(f"http://localhost:{arguments.port}   Ctrl-C ends it")
    status = subprocess.call(command_line(arguments), env=environment)
    if status not in (0, 130, -2):
        raise InputError(f"the page ended with status {status}; is port {arguments.port} in use? "
                         "give another --port")
