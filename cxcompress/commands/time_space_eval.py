"""`time_space_eval.py`: time and size of a compressed file beside its original, in one run."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.errors import InputError
from cxcompress.evaluation import Ratio, Ratios
from cxcompress.reporting.tables import byte_count, number, ratio, text_table
from cxcompress.runs import RunFolder, progress
from cxcompress.runtime.running import chosen_plan
from cxcompress.storage import Container, read_container

EXAMPLE = ("python experiments/time_space_eval.py --net model.h5 "
           "--compr_weights results/uCWS/…/….h5 --testset images")
THREADS = 2
READS = 5
"""Times that the container is read, to time it."""


def build_parser() -> argparse.ArgumentParser:
    """The flags of `time_space_eval.py`; the prior work's keep their names."""
    parse = parser("time_space_eval.py", "Time and size of a compressed file beside its original: "
                   "calls interleaved, medians, ratios ours / original.", EXAMPLE)
    add = parse.add_argument
    add("--net", required=True, help="the original .keras, .h5 or .hdf5 model")
    add("--compr_weights", required=True, help="its compressed .h5")
    add("--compression", help="check that the file was compressed so; CWS also accepts uCWS")
    add("--testset", help="images to time on, as --data_path of compress.py "
        "(default: generated noise)")
    add("--batch_size", type=int, default=1, help="images a call (1)")
    add("--repeats", type=int, default=20, help="timed calls of each variant (20)")
    add("--no_memory", action="store_true",
        help="leave out peak memory, which needs two more processes")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(time_space_eval(arguments).text), argv)


@dataclass(frozen=True)
class Outcome:
    """What the command leaves behind, for the commands that build on it."""

    folder: Path
    table: str

    @property
    def text(self) -> str:
        """What the terminal shows."""
        return f"{self.table}\n\nresults  {self.folder}"


def time_space_eval(arguments: argparse.Namespace) -> Outcome:
    """Measure, write the run folder and return the table.

    Raises:
        InputError: If a file cannot be used, or the two do not belong together.
    """
    for name in ("batch_size", "repeats"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name} {getattr(arguments, name)}: must be at least 1")
    net, compressed = Path(arguments.net), Path(arguments.compr_weights)
    for flag, path in (("--net", net), ("--compr_weights", compressed)):
        if not path.is_file():
            raise InputError(f"{flag} {path}: no such file")

    container = read_container(compressed)
    wanted, found = arguments.compression, container.compression
    if wanted and found not in (wanted, f"u{wanted}"):
        raise InputError(f"{compressed}: was compressed with {found}, not {wanted}; "
                         "leave --compression out, or give another file")

    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    path = Path(arguments.output_path) / "time_space_eval" / compressed.stem
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        measured = _measure(arguments, net, compressed, container)
        ratios = _ratios(measured)
        measured |= ratios.to_dict()
        folder.write_json("results.json", folder.record | {"state": "done"} | measured)
        folder.write_csv("results_time_space.csv", [
            {"quantity": name, "value": value} for name, value in measured.items()
            if isinstance(value, int | float)])
        from cxcompress.reporting import figures

        figures.latencies(path / "latencies", measured["seconds"])
    return Outcome(path, text_table(_rows(measured, ratios), right=("original", "compressed")))


def _measure(
    arguments: argparse.Namespace, net: Path, compressed: Path, container: Container
) -> dict:
    start_tensorflow()
    import numpy as np
    import tensorflow as tf

    from cxcompress import models
    from cxcompress.conversion.index_map_graph import IndexMapGraph
    from cxcompress.conversion.peak_memory import peak_memory_bytes
    from cxcompress.evaluation.timing import interleaved
    from cxcompress.runtime import RuntimeModel
    from cxcompress.runtime.measuring import measure

    model = models.load_model(net)
    originals = {name: tuple(v.shape) for name, v in models.variables_by_path(model).items()}
    stored = {name: np.shape(value) for name, value in container.shared.weights().items()}
    if originals != stored:
        raise InputError(f"{compressed}: was not made from {net}; its weights have other names or "
                         "shapes")
    inputs = _inputs(arguments, model, container)
    graph = IndexMapGraph(container.architecture, container.shared,
                          batch_size=arguments.batch_size)
    compiled, tensor = tf.function(model), tf.constant(inputs)
    plans = {f"plan {name}": RuntimeModel.of(container, graph_of_plan, name)
             for name, graph_of_plan in container.graph.items()}
    difference = float(np.abs(np.asarray(graph(tensor)) - np.asarray(compiled(tensor))).max())
    seconds = interleaved({
        "Keras predict": lambda: model.predict(inputs, verbose=0),
        "Keras compiled call": lambda: np.asarray(compiled(tensor)),
        "index maps in graph": lambda: np.asarray(graph(tensor)),
    } | {name: lambda plan=plan: plan.predict(inputs) for name, plan in plans.items()},
        arguments.repeats)
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    reading = []
    for _ in range(READS):
        start = time.perf_counter()
        read_container(compressed)
        reading.append(time.perf_counter() - start)
    measured = {
        "seconds": seconds, "median_seconds": median,
        "read_and_decode_seconds": statistics.median(reading),
        "largest_output_difference": difference, "runs_by": _main_row(container),
        "disk_bytes_original": net.stat().st_size,
        "disk_bytes_compressed": compressed.stat().st_size,
        "parameters": model.count_params(),
        "weight_bytes_original": 4 * model.count_params(),
        "weight_bytes_compressed": graph.weight_bytes,
        "shared_weights": sum(k.indices.size for k in container.shared.kernels.values()),
        "batch_size": arguments.batch_size,
    }
    if not arguments.no_memory:
        peaks = []
        for path in progress((net, compressed), "Peak memory", total=2):
            if path == net or not container.graph:
                variant = "keras" if path == net else "index_map"
                peaks.append(peak_memory_bytes(variant, path, arguments.batch_size))
            else:
                plan = measured["runs_by"].removeprefix("plan ")
                peaks.append(measure(path, plan, THREADS)["peak_bytes"])
        measured |= {"peak_bytes_original": peaks[0], "peak_bytes_compressed": peaks[1]}
    return measured


def _main_row(container: Container) -> str:
    """What `time_ratio` is about: the plan that `auto` takes, or index maps inside TensorFlow."""
    if not container.graph:
        return "index maps in graph"
    return f"plan {chosen_plan('', container.graph, container.card, 'auto')}"


def _ratios(measured: dict) -> Ratios:
    median = measured["median_seconds"]
    memory = None
    if "peak_bytes_original" in measured:
        memory = measured["peak_bytes_compressed"], measured["peak_bytes_original"]
    return Ratios.of(
        container_bytes=measured["disk_bytes_compressed"], parameters=measured["parameters"],
        file_bytes=measured["disk_bytes_original"], memory_bytes=memory,
        seconds=median[measured["runs_by"]], seconds_compiled=median["Keras compiled call"],
        seconds_predict=median["Keras predict"])


def _inputs(arguments: argparse.Namespace, model, container):
    """float32 `(batch_size, h, w, c)`: test images, or noise where no test set is given."""
    import numpy as np

    from cxcompress.images import Preprocessing
    from cxcompress.pipeline.compressing import noise_inputs
    from cxcompress.pipeline.inputs import evenly, open_data

    if arguments.testset is None:
        images = noise_inputs(model, arguments.seed)
    else:
        collection = open_data(arguments.testset, model, arguments.seed)
        part = evenly(collection.test or collection.val or collection.train, arguments.batch_size)
        card = container.card.preprocessing
        if not card:
            raise InputError(f"{arguments.compr_weights}: its card names no preprocessing, since "
                             "it was compressed without data; leave --testset out")
        images = Preprocessing.from_dict(card).batch(part.images)
    return np.resize(images, (arguments.batch_size, *images.shape[1:])).astype(np.float32)


def _rows(measured: dict, ratios: Ratios) -> list[dict[str, str]]:
    median = measured["median_seconds"]

    def milliseconds(name: str) -> str:
        return f"{1e3 * median[name]:.2f} ms"

    ours = milliseconds(measured["runs_by"])
    rows = [
        {"quantity": name + (", without TensorFlow" if name.startswith("plan") else ""),
         "original": "", "compressed": milliseconds(name),
         "ratio": ratio(Ratio(median[name], median["Keras compiled call"], "seconds"))}
        for name in median if name == "index maps in graph" or name.startswith("plan")]
    rows += [
        {"quantity": f"time of one call ({measured['runs_by']}), against the compiled Keras call",
         "original": milliseconds("Keras compiled call"), "compressed": ours,
         "ratio": f"time_ratio {ratio(ratios.time_ratio)}"},
        {"quantity": f"time of one call ({measured['runs_by']}), against model.predict",
         "original": milliseconds("Keras predict"), "compressed": ours,
         "ratio": f"time_ratio_predict {ratio(ratios.time_ratio_predict)}"},
        {"quantity": "file on disk", "original": byte_count(measured["disk_bytes_original"]),
         "compressed": byte_count(measured["disk_bytes_compressed"]),
         "ratio": f"file_ratio {ratio(ratios.file_ratio)}"},
        {"quantity": "file against 4 bytes a parameter",
         "original": byte_count(4 * measured["parameters"]),
         "compressed": byte_count(measured["disk_bytes_compressed"]),
         "ratio": f"space_ratio {ratio(ratios.space_ratio)}"},
        {"quantity": "weights in memory", "original": byte_count(measured["weight_bytes_original"]),
         "compressed": byte_count(measured["weight_bytes_compressed"]),
         "ratio": ratio(Ratio(measured["weight_bytes_compressed"],
                              measured["weight_bytes_original"], "bytes"))},
    ]
    if ratios.memory_ratio:
        rows.append({
            "quantity": f"peak memory of the process ({measured['runs_by']})",
            "original": byte_count(measured["peak_bytes_original"]),
            "compressed": byte_count(measured["peak_bytes_compressed"]),
            "ratio": f"memory_ratio {ratio(ratios.memory_ratio)}"})
    rows += [
        {"quantity": "read, check and decode the file", "original": "",
         "compressed": f"{1e3 * measured['read_and_decode_seconds']:.1f} ms", "ratio": ""},
        {"quantity": "largest change of an output", "original": "",
         "compressed": number(measured["largest_output_difference"], 6), "ratio": ""},
    ]
    return rows
