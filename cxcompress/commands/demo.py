"""`cxcompress demo`: compress a bundled model on generated data, time it, write one report."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from cxcompress.commands import compress, time_space_eval
from cxcompress.commands.command_line import parser, run
from cxcompress.runs import RunFolder


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parse = parser("cxcompress demo", "Compress a bundled chest X-ray model on generated images, "
                   "time it beside the original and write report.html.", "cxcompress demo")
    parse.set_defaults(output_path="results/demo")
    return run(parse, lambda arguments: print(demo(arguments)), argv)


def demo(arguments: argparse.Namespace) -> str:
    """Run `compress.py` and `time_space_eval.py` on the bundled model; returns what to print.

    Raises:
        InputError: If the output folder holds something else.
    """
    from cxcompress.reporting.compression_report import compression_page

    root = Path(arguments.output_path)
    common = ["--seed", str(arguments.seed), "--output_path", str(root / "runs"), "--overwrite"]
    with RunFolder.open(root, {"seed": arguments.seed}, overwrite=arguments.overwrite):
        outcome = compress.compress_command(
            compress.build_parser().parse_args(["--compression", "uCWS", *common]))
        timing = time_space_eval.time_space_eval(
            time_space_eval.build_parser().parse_args(
                ["--net", str(compress.bundled_model()), "--compr_weights",
                 str(outcome.container), "--testset", compress.BUNDLED_DATA, *common]))
        result = outcome.result
        page = compression_page(
            outcome.folder, result,
            compress.size_rows(result, outcome.sizes, compress.bundled_model().stat().st_size),
            compress.metric_rows(result), compress.layer_rows(result, outcome.sizes),
            compress.plan_rows(result))
        page.heading("Time and memory")
        page.paragraph("The same calls in turns, in one process. Plans run without TensorFlow; "
                       "\"index maps in graph\" expands them inside TensorFlow at each call.")
        page.code(timing.table)
        page.figure(timing.folder / "latencies.svg",
                    "Time of single calls on this machine, original and compressed in turns.")
        page.write(root / "report.html")
        shutil.copyfile(outcome.container, root / "small_cxr-uCWS.h5")
    return "\n".join([outcome.text, "", timing.table, "",
                      f"Open {root}/report.html in a browser."])
