"""`cxcompress export`: a compressed file as a `.tflite`, or as an ordinary Keras file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cxcompress.commands.command_line import OneLineParser, run, start_tensorflow
from cxcompress.errors import InputError
from cxcompress.reporting.tables import byte_count
from cxcompress.runs import write_atomic


def build_parser() -> OneLineParser:
    """The flags of `cxcompress export`."""
    parse = OneLineParser(
        prog="cxcompress export", description="Write a compressed file as a .tflite, which any "
        "LiteRT runs (a phone's too), or as an ordinary Keras file with float weights.",
        epilog="example: cxcompress export model-uCWS.h5 --to tflite --plan int8",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parse.add_argument
    add("model", help="a compressed .h5")
    add("--to", choices=("tflite", "keras"), required=True, help="keras needs TensorFlow")
    add("--plan", default="auto", help="tflite: float32, int8, static_int8 or auto (auto)")
    add("--output", metavar="FILE", help="default: the model's name with the new ending")
    add("--overwrite", action="store_true", help="replace a file that exists")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(export(arguments)), argv)


def export(arguments: argparse.Namespace) -> str:
    """Write the file and return the line to print.

    Raises:
        InputError: If the model cannot be used, or the output exists.
    """
    output = Path(arguments.output or Path(arguments.model).with_suffix(f".{arguments.to}"))
    if output.exists() and not arguments.overwrite:
        raise InputError(f"{output}: exists; give --overwrite or --output")
    if arguments.to == "tflite":
        from cxcompress.runtime import flatbuffer

        write_atomic(output, flatbuffer(arguments.model, arguments.plan))
    else:
        if output.suffix not in (".keras", ".h5", ".hdf5"):
            raise InputError(f"--output {output}: Keras writes .keras or .h5 files")
        from cxcompress.storage import read_container

        container = read_container(arguments.model)
        start_tensorflow()
        from cxcompress import models

        model = models.model_from_container(container)
        models.save_model(model, output)
    return f"{output}  {byte_count(output.stat().st_size)}"
