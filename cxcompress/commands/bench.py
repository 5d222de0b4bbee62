"""`cxcompress bench`: how fast and how small a compressed file runs here. Needs no TensorFlow."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence

from cxcompress.commands.command_line import OneLineParser, run
from cxcompress.errors import InputError
from cxcompress.images import image_files
from cxcompress.reporting.tables import byte_count, number, text_table
from cxcompress.runs import progress


def build_parser() -> OneLineParser:
    """The flags of `cxcompress bench`."""
    parse = OneLineParser(
        prog="cxcompress bench", description="Measure every plan of a compressed file on this "
        "machine: latency, cold start, peak memory, and whether it answers as it did where it was "
        "made.", epilog="example: cxcompress bench model-uCWS.h5 --threads 1",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parse.add_argument
    add("model", help="a compressed .h5")
    add("--plan", help="one plan instead of all")
    add("--threads", type=int, default=2, help="threads of the interpreter (2)")
    add("--repeats", type=int, default=20, help="timed calls (20)")
    add("--check_images", metavar="DIR",
        help="the pictures that compress.py --check_images was given")
    add("--save", action="store_true",
        help="make the fastest plan within the stored tolerance the file's recommended one")
    add("--json", action="store_true", help="JSON instead of a table")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(bench(arguments)), argv)


def bench(arguments: argparse.Namespace) -> str:
    """Measure and return the text to print.

    Raises:
        InputError: If the file cannot be used.
    """
    from cxcompress.runtime.measuring import measure
    from cxcompress.storage import read_container, write_container

    for flag in ("threads", "repeats"):
        if getattr(arguments, flag) < 1:
            raise InputError(f"--{flag} {getattr(arguments, flag)}: must be at least 1")
    container = read_container(arguments.model)
    if not container.graph:
        raise InputError(f"{arguments.model}: holds no graph to run without TensorFlow; compress "
                         "it again with --plans")
    plans = sorted(container.graph)
    if arguments.plan is not None:
        if arguments.plan not in plans:
            raise InputError(f"{arguments.model}: has no plan {arguments.plan!r}; it has "
                             f"{', '.join(plans)}")
        plans = [arguments.plan]
    images = image_files([arguments.check_images]) if arguments.check_images else []
    found = {plan: measure(arguments.model, plan, arguments.threads, arguments.repeats, images)
             for plan in progress(plans, "Plans", total=len(plans))}
    stored = container.card.metrics.get("execution", {})
    best = _fastest(found, stored)
    said = f"recommended by the file: {container.card.recommended_plan}; fastest here: {best}"
    if arguments.save and best is not None:
        card = dataclasses.replace(container.card, recommended_plan=best)
        write_container(arguments.model, dataclasses.replace(container, card=card),
                        coder=_coder(arguments.model), overwrite=True)
        said = f"recommended plan is now {best}"
    if arguments.json:
        return json.dumps({"model": arguments.model, "threads": arguments.threads,
                           "plans": found, "fastest": best}, indent=2)
    rows = [{"plan": plan, "an image": f"{1e3 * row['latency_seconds']:.2f} ms",
             "cold start": f"{row['cold_start_seconds']:.2f} s",
             "loading": f"{row['load_seconds']:.2f} s",
             "peak memory": byte_count(row["peak_bytes"]),
             "difference of check outputs": number(row["difference"], 5)}
            for plan, row in found.items()]
    return "\n".join([text_table(rows), "",
                      f"{arguments.threads} threads, generated inputs; {said}"])


def _fastest(found, stored) -> str | None:
    """The fastest plan of those that differed little enough where the file was made."""
    measured, tolerance = stored.get("plans", {}), stored.get("tolerance", 0.0)
    within = [plan for plan in found if plan == "float32"
              or measured.get(plan, {}).get("difference", float("inf")) <= tolerance]
    return min(within, key=lambda plan: found[plan]["latency_seconds"], default=None)


def _coder(path: str) -> str:
    from cxcompress.storage import read_sizes

    coders = {size.coder for size in read_sizes(path).kernels.values()}
    return coders.pop() if len(coders) == 1 else "auto"
