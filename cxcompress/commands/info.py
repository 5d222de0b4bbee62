"""`cxcompress info`: what a compressed file says of itself. Needs no TensorFlow."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import numpy as np

from cxcompress.commands.command_line import OneLineParser, run
from cxcompress.reporting.tables import byte_count, number, text_table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parse = OneLineParser(prog="cxcompress info", description="Print the card and the layers of a "
                          "compressed .h5.", epilog="example: cxcompress info model-uCWS.h5")
    parse.add_argument("model", help="a compressed .h5")
    parse.add_argument("--json", action="store_true", help="the card as JSON, nothing else")
    return run(parse, lambda arguments: print(info(arguments)), argv)


def info(arguments: argparse.Namespace) -> str:
    """The card and the per-layer table of a container, as text.

    Raises:
        InputError: If the file is no readable container.
    """
    from cxcompress.storage import read_container, read_sizes

    container = read_container(arguments.model)
    card = container.card.to_dict()
    if arguments.json:
        return json.dumps(card, indent=2, ensure_ascii=False)
    shared = container.shared
    rows = [
        {
            "kernel": path,
            "shape": "×".join(map(str, kernel.indices.shape)),
            "codebook": kernel.codebook,
            "levels": str(np.unique(kernel.indices).size),
            "zeros %": number(100 * float(np.mean(shared.kernel(path) == 0)), 1),
        }
        for path, kernel in shared.kernels.items()
    ]
    plans = [
        {"plan": name + (" (auto)" if name == container.card.recommended_plan else ""),
         "graph": byte_count(len(graph.flatbuffer)),
         "int8 kernels": str(sum(kernel["dtype"] == "int8"
                                 for kernel in graph.placement.get("kernels", ()))),
         "not exact": str(len(graph.placement.get("rounded", ()))),
         "float": str(len(graph.placement.get("float", ()))),
         "as converted": str(len(graph.placement.get("as_converted", ())))}
        for name, graph in sorted(container.graph.items())]
    sizes = read_sizes(arguments.model)
    parts = [{"part": name, "bytes": byte_count(size), "%": number(100 * size / sizes.total, 1)}
             for name, size in sorted(sizes.parts().items(), key=lambda part: -part[1]) if size]
    floats = sum(np.asarray(value).nbytes for value in shared.unshared.values())
    lines = [f"{name}: {value}" for name, value in card.items()
             if value not in (None, "", {}, (), []) and name not in ("metrics", "provenance")]
    lines += [f"{name}: {value}" for name, value in card["provenance"].items()]
    return "\n".join([f"compression: {container.compression}", *lines, "",
                      text_table(rows, right=("levels", "zeros %")), "",
                      *((text_table(plans, right=tuple(plans[0])[1:]), "") if plans else
                        ("no plan to run without TensorFlow", "")),
                      text_table(parts, right=("bytes", "%")), "",
                      f"whole file: {byte_count(sizes.total)}",
                      f"kept float: {len(shared.unshared)} arrays, {byte_count(floats)}",
                      "cxcompress is a research tool, not a medical device."])
