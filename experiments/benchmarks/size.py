"""Bytes of a network's kernels against their error: general compressors, other tools, and ours.

Model: `--net`, any Keras model, with `--data_path` also judged on its test images; or `--drawn`,
a network of the library with **drawn** weights (Laplace, spread changing from channel to
channel), for ResNet50 and DenseNet121, of which no trained one is at hand. Treatment: all kernels
of the network at once, biases and BatchNormalization left out, as

- float32 and float16 arrays under zlib, lzma and (where installed) zstd;
- k-means per kernel by tensorflow-model-optimization's `cluster_weights`, float32 under zlib, as
  its guide stores them (`--tfmot`; needs the extra `train`);
- index maps of one CWS codebook as uint8 under lzma, as the PathoNet compression scripts do;
- a uniform grid, the same step everywhere, coded by `rans` and by `context`;
- ECSQ coded by `rans`; TCQ with 8 and 256 states coded by `context`;
- nncodec, the ISO/IEC 15938-17 codec: trellis quantiser and DeepCABAC, one quantisation parameter
  for all kernels, axes in its own order (outputs first), without and with its rate-distortion
  optimisation (λ = 0.5, the best of 0, 0.5, 1, 2 at 21 dB on the PneumoniaMNIST classifier).
  `--nncodec PYTHON` names the interpreter of an environment that has it.

and, whole files: the original, the stock LiteRT converter's int8 files with and without zstd or
lzma, Keras' own `quantize("int8")`, and compressed containers without plans.

Measurement: bytes with codebooks and tables; weight SQNR; seconds in this process, one thread;
mean difference of outputs from the original's; with data, the test metric with its bootstrap 95%
interval. Peers are compared at equal SQNR by interpolation along their curve. Output: a table, a
CSV, a JSON file and a figure; interrupted, the same command goes on.

    python experiments/benchmarks/size.py --net pretrained/small_cxr_pneumoniamnist.h5
"""

from __future__ import annotations

import argparse
import functools
import json
import lzma
import math
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWN = ("resnet50", "densenet121")
SQNRS = (9.0, 12.0, 15.0, 18.0, 21.0, 24.0, 27.0)
CWS_LEVELS = (8, 16, 32, 64, 128, 256)
TFMOT_LEVELS = (8, 16, 32, 64)
NNCODEC_STEPS = range(-40, -7, 3)
"""Quantisation parameters; 4 more are a step twice as wide."""
NNCODEC_LAMBDAS = (0.0, 0.5)
NNCODEC = [f"nncodec, λ {scale:g}" for scale in NNCODEC_LAMBDAS]
NNCODEC_SECONDS = 600
CHECKED_IMAGES = 8
METRIC = {"nuclei": "f1_macro"}
"""The metric of a task; AUROC of all others."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    from cxcompress.commands.command_line import parser, run

    parse = parser("size.py", "Bytes of a network's kernels against their error, beside peers.",
                   "python experiments/benchmarks/size.py --drawn resnet50")
    source = parse.add_mutually_exclusive_group(required=True)
    source.add_argument("--net", help="a .keras, .h5 or .hdf5 model")
    source.add_argument("--drawn", choices=DRAWN, help="a network with drawn weights")
    parse.add_argument("--data_path", help="images to judge by, as for compress.py")
    parse.add_argument("--count", type=int, help="images to generate, for synthetic:…")
    parse.add_argument("--sqnr", type=float, nargs="+", default=list(SQNRS), metavar="DB")
    parse.add_argument("--tfmot", action="store_true", help="measure cluster_weights too (slow)")
    parse.add_argument("--nncodec", metavar="PYTHON",
                       help="the Python of an environment with nncodec, to measure it too")
    return run(parse, lambda arguments: print(benchmark(arguments)), argv)


def benchmark(arguments: argparse.Namespace) -> str:
    """Measure all rows, write the run folder and return the tables."""
    from cxcompress.commands.command_line import start_tensorflow
    from cxcompress.reporting.tables import number, text_table
    from cxcompress.runs import RunFolder, WorkUnit

    start_tensorflow()
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    name = arguments.drawn or Path(arguments.net).stem
    with RunFolder.open(Path(arguments.output_path) / "size" / name, described,
                        overwrite=arguments.overwrite) as folder:
        judge = Judge(arguments)
        done = folder.run_units([WorkUnit(id_, job, {"judge": judge})
                                 for id_, job in _jobs(arguments)], name)
        empty = dict.fromkeys(("metric", "metric_low", "metric_high", "n"))
        rows = [{"model": name} | empty | row
                for found in done.values() for row in found.get("rows", [found])
                if row["family"] not in NNCODEC or _is_near(row["sqnr_db"], arguments.sqnr)]
        folder.write_csv("size.csv", rows)
        curves = [row for row in rows if row["sqnr_db"] is not None]
        at = [_compared(curves, db) for db in arguments.sqnr]
        folder.write_json("results.json", folder.record | {
            "state": "done", "rows": rows, "at_equal_sqnr": at})
        figure(curves, folder.path / "size", name)
    table = [{"row": row["row"], "bytes": f"{row['bytes']:,}",
              "bits a weight": number(row["bits_per_weight"], 3),
              "SQNR dB": number(row["sqnr_db"], 2), "encode s": number(row["encode_seconds"], 2),
              "decode s": number(row["decode_seconds"], 2),
              "mean output change": number(row["output_change"], 5),
              "test metric (95%)": "" if row.get("metric") is None else
              f"{row['metric']:.3f} ({row['metric_low']:.3f} to {row['metric_high']:.3f}), "
              f"n = {row['n']}"} for row in rows]
    families = list(dict.fromkeys(row["family"] for row in curves))
    same = [{"at SQNR dB": number(line["sqnr_db"], 0)} | {
        family: number(line.get(family), 3) for family in families} for line in at]
    return "\n\n".join([text_table(table), "bits a weight at equal SQNR (interpolated)",
                        text_table(same), f"results  {folder.path}"])


class Judge:
    """The network, its kernels, and what a set of kernels does to its outputs."""

    def __init__(self, arguments: argparse.Namespace):
        from cxcompress import models
        from cxcompress.pipeline import inputs

        self.notes: list[str] = []
        self.study = self.thresholds = None
        if arguments.drawn:
            sys.path.insert(0, str(Path(__file__).parent))
            from runtime import drawn_model

            self.model, images = drawn_model(arguments.drawn, arguments.seed)
            self.images = images[:CHECKED_IMAGES]
            self.file_bytes = None
        else:
            self.model, card, _ = inputs.open_model(arguments.net)
            self.file_bytes = Path(arguments.net).stat().st_size
            if arguments.data_path:
                self.study = inputs.open_study(
                    self.model, card, arguments.data_path, None, "auto", arguments.seed,
                    self.notes, arguments.count)
                self.part, _ = self.study.judged_part("test", self.notes)
                self.thresholds = card.thresholds if card and card.thresholds else (
                    self.study.thresholds(self.model, inputs.BATCH_SIZE))
                some = inputs.evenly(self.part, CHECKED_IMAGES)
                self.images = self.study.preprocessing.batch(some.images)
            else:
                from cxcompress.pipeline.compressing import noise_inputs

                self.images = noise_inputs(self.model, arguments.seed)[:CHECKED_IMAGES]
        self.weights = models.weights(self.model)
        self.kernels = {kernel.path: self.weights[kernel.path]
                        for kernel in models.kernels(self.model)}
        self.size = sum(kernel.size for kernel in self.kernels.values())
        self.signal = float(sum(np.square(kernel, dtype=np.float64).sum()
                                for kernel in self.kernels.values()))
        self.outputs = np.asarray(self.model(self.images, training=False))

    def row(self, name: str, family: str, encode: Callable, decode: Callable) -> dict[str, Any]:
        """Encode all kernels, decode them, and judge what came back.

        Args:
            name, family: Of the row, and of the curve that it belongs to.
            encode: From kernels by path to (anything, bytes).
            decode: From that to kernels by path.
        """
        began = time.perf_counter()
        code, size = encode(self.kernels)
        encoded = time.perf_counter()
        kernels = decode(code)
        decoded = time.perf_counter()
        noise = float(sum(np.square(kernels[path].astype(np.float64) - kernel).sum()
                          for path, kernel in self.kernels.items()))
        sqnr = 10 * math.log10(self.signal / noise) if noise else None
        return {"row": name, "family": family, "bytes": size, "sqnr_db": sqnr,
                "bits_per_weight": 8 * size / self.size, "encode_seconds": encoded - began,
                "decode_seconds": decoded - encoded} | self.judged(kernels, sqnr)

    def judged(self, kernels: dict[str, NDArray], sqnr: float | None) -> dict[str, Any]:
        """Mean change of outputs, and with data the metric; the model is as before afterwards."""
        from cxcompress import models
        from cxcompress.evaluation import evaluate
        from cxcompress.pipeline.inputs import BATCH_SIZE

        models.set_weights(self.model, self.weights | kernels)
        try:
            outputs = np.asarray(self.model(self.images, training=False))
            found: dict[str, Any] = {"output_change": float(np.abs(outputs - self.outputs).mean())}
            if self.study is not None and sqnr is not None:
                record = self.study.record(self.model, self.part, BATCH_SIZE, "Test",
                                           self.thresholds)
                estimates = evaluate(record, thresholds=self.thresholds)
                metric = estimates[METRIC.get(self.study.task.name, "auroc_macro")]
                found |= {"metric": metric.value, "metric_low": metric.low,
                          "metric_high": metric.high, "n": len(self.part)}
        finally:
            models.set_weights(self.model, self.weights)
        return found


def _jobs(arguments: argparse.Namespace) -> Iterator[tuple[str, Callable[[Judge], dict]]]:
    """A name and what measures it: a row, or several as "rows"."""
    def row(name: str, family: str, coded: tuple[Callable, Callable]):
        return name, lambda judge: judge.row(name, family, *coded)

    for dtype in (np.float32, np.float16):
        for name, compress, expand in _general_compressors():
            yield row(f"{np.dtype(dtype).name}, {name}", f"float, {name}",
                      _as_bytes(dtype, compress, expand))
    if arguments.tfmot:
        for k in TFMOT_LEVELS:
            yield row(f"tfmot cluster_weights k={k}, zlib", "tfmot clusters, zlib",
                      (lambda kernels, k=k: _clustered(kernels, k),
                       _as_bytes(np.float32, zlib.compress, zlib.decompress)[1]))
    for k in CWS_LEVELS:
        yield row(f"CWS k={k}, uint8 index map, lzma", "CWS, lzma (prior art)",
                  _quantised("CWS", "lzma", k=k))
        for coder in ("rans", "context"):
            yield row(f"CWS k={k}, {coder}", f"CWS, {coder}", _quantised("CWS", coder, k=k))
    for db in arguments.sqnr:
        yield row(f"ECSQ, {db:g} dB, rans", "ECSQ, rans", _quantised(
            "ECSQ", "rans", k=256, bits_per_weight=max(0.3, (db - 1.5) / 6.02)))
        for coder in ("rans", "context"):
            yield row(f"uniform, {db:g} dB, {coder}", f"uniform, {coder}", _uniform(db, coder))
        for states in (8, 256):
            yield row(f"TCQ {states} states, {db:g} dB, context", f"TCQ {states}, context",
                      _quantised("TCQ", "context", k=256, sqnr_db=db, states=states))
    if arguments.nncodec:
        for scale, family in zip(NNCODEC_LAMBDAS, NNCODEC, strict=True):
            for qp in NNCODEC_STEPS:
                yield f"{family}, qp {qp}", functools.partial(
                    _nncodec, python=arguments.nncodec, family=family, qp=qp, scale=scale)
    yield "files", lambda judge: {"rows": list(_whole_files(judge))}


def _is_near(sqnr_db: float | None, compared: Sequence[float]) -> bool:
    return sqnr_db is not None and min(compared) - 5 <= sqnr_db <= max(compared) + 5


def _general_compressors() -> list[tuple[str, Callable, Callable]]:
    found = [("zlib", lambda data: zlib.compress(data, 9), zlib.decompress),
             ("lzma", lzma.compress, lzma.decompress)]
    try:
        import zstandard
    except ImportError:
        return found
    return [*found, ("zstd", zstandard.ZstdCompressor(19).compress,
                     zstandard.ZstdDecompressor().decompress)]


def _as_bytes(dtype, compress: Callable, expand: Callable) -> tuple[Callable, Callable]:
    """All kernels as one array of a type under a general compressor."""
    def encode(kernels):
        data = np.concatenate([kernel.ravel() for kernel in kernels.values()]).astype(dtype)
        code = compress(data.tobytes())
        return (code, {path: kernel.shape for path, kernel in kernels.items()}), len(code)

    def decode(code):
        flat, start, found = np.frombuffer(expand(code[0]), dtype), 0, {}
        for path, shape in code[1].items():
            found[path] = flat[start : start + math.prod(shape)].reshape(shape).astype(np.float32)
            start += math.prod(shape)
        return found

    return encode, decode


def _clustered(kernels: dict[str, NDArray], k: int):
    """What tensorflow-model-optimization's clustering makes of each kernel, float32 under zlib."""
    import os

    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow_model_optimization as tfmot
    import tf_keras

    found = {}
    for path, kernel in kernels.items():
        matrix = kernel.reshape(-1, kernel.shape[-1])
        layer = tf_keras.layers.Dense(matrix.shape[1], use_bias=False)
        model = tf_keras.Sequential([tf_keras.Input((len(matrix),)), layer])
        model.set_weights([matrix])
        wrapped = tfmot.clustering.keras.cluster_weights(
            model, number_of_clusters=min(k, matrix.size),
            cluster_centroids_init=(
                tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS))
        stripped = tfmot.clustering.keras.strip_clustering(wrapped)
        found[path] = stripped.get_weights()[0].reshape(kernel.shape)
    return _as_bytes(np.float32, zlib.compress, zlib.decompress)[0](found)


def _coded(kernels: dict[str, NDArray], maps: Sequence[NDArray], values: NDArray, coder: str,
           codebook_bytes: int):
    """Index maps under a coder: what decodes to kernels, and all bytes of it."""
    from cxcompress import representation

    if coder == "lzma":
        data = np.concatenate([indices.ravel() for indices in maps])
        code = lzma.compress(data.tobytes())
        return (code, data.dtype, [indices.shape for indices in maps], list(kernels), values), (
            len(code) + codebook_bytes)
    encoded = representation.get(coder).encode_kernels(
        {path: (indices, values.size) for path, indices in zip(kernels, maps, strict=True)})
    return (encoded, None, None, list(kernels), values), encoded.nbytes + codebook_bytes


def _decoded(code) -> dict[str, NDArray]:
    encoded, dtype, shapes, paths, values = code
    if shapes is None:
        maps = list(encoded.decode().values())
    else:
        flat = np.frombuffer(lzma.decompress(encoded), dtype)
        ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
        maps = [part.reshape(shape)
                for part, shape in zip(np.split(flat, ends), shapes, strict=True)]
    return {path: values[indices] for path, indices in zip(paths, maps, strict=True)}


def _quantised(name: str, coder: str, **parameters: Any) -> tuple[Callable, Callable]:
    """One codebook for all kernels, as the unified quantisers have it."""
    from cxcompress import quantization

    def encode(kernels):
        quantizer = quantization.get(name, **parameters)
        quantizer.fit(np.concatenate([kernel.ravel() for kernel in kernels.values()]))
        values = quantizer.codebook_.values
        size = 8 + values.size if name == "TCQ" else values.nbytes
        return _coded(kernels, quantizer.assign_kernels(list(kernels.values())), values, coder,
                      size)

    return encode, _decoded


def _uniform(db: float, coder: str) -> tuple[Callable, Callable]:
    """The nearest multiple of one step, whatever number of levels that takes."""
    def encode(kernels):
        flat = np.concatenate([kernel.ravel() for kernel in kernels.values()]).astype(np.float64)
        wanted = np.square(flat).mean() / 10 ** (db / 10)
        step = math.sqrt(12 * wanted)
        for _ in range(12):
            step *= math.sqrt(wanted / np.square(np.rint(flat / step) * step - flat).mean())
        integers = [np.rint(kernel / step).astype(np.int64) for kernel in kernels.values()]
        low, high = min(n.min() for n in integers), max(n.max() for n in integers)
        kind = np.uint8 if high - low < 256 else np.uint16
        values = (np.arange(low, high + 1) * step).astype(np.float32)
        return _coded(kernels, [(n - low).astype(kind) for n in integers], values, coder,
                      8 + values.size)

    return encode, _decoded


def _nncodec(judge: Judge, python: str, family: str, qp: int, scale: float) -> dict[str, Any]:
    """A row of nncodec; its seconds are its own."""
    seconds: dict[str, float] = {}

    def encode(kernels):
        decoded, size, spent = _through_nncodec(kernels, python, qp, scale)
        seconds.update(spent)
        return decoded, size

    return judge.row(f"{family}, qp {qp}", family, encode, lambda decoded: decoded) | seconds


def _through_nncodec(kernels: dict[str, NDArray], python: str, qp: int, scale: float):
    """Kernels as decoded, bytes, and seconds of the codec in its own process."""
    from cxcompress.errors import InputError

    with tempfile.TemporaryDirectory() as folder:
        source, target = (Path(folder) / name for name in ("kernels.npz", "decoded.npz"))
        ordered = [np.moveaxis(kernel, (-1, -2), (0, 1)) if kernel.ndim > 2 else kernel.T
                   for kernel in kernels.values()]
        np.savez(source, **{str(number): array for number, array in enumerate(ordered)})
        done = subprocess.run(
            [python, str(Path(__file__).with_name("nncodec_process.py")), source, target,
             str(qp), str(scale)], capture_output=True, text=True, timeout=NNCODEC_SECONDS)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise InputError(f"--nncodec {python}: {last}")
        found = json.loads(done.stdout.strip().splitlines()[-1])
        with np.load(target, allow_pickle=False) as file:
            arrays = [file[str(number)] for number in range(len(ordered))]
    decoded = {path: np.moveaxis(array, (0, 1), (-1, -2)) if array.ndim > 2 else array.T
               for path, array in zip(kernels, arrays, strict=True)}
    size = found.pop("bytes")
    return decoded, size, found


def _whole_files(judge: Judge) -> Iterator[dict[str, Any]]:
    """Files of other tools, and our containers, without a curve: bytes and output change."""
    import keras

    from cxcompress import models
    from cxcompress.conversion.litert_converter import convert
    from cxcompress.pipeline.sharing import share_model
    from cxcompress.quantization import Compression
    from cxcompress.storage import Container, ModelCard, write_container

    def file(name: str, size: int, change: float | None = None, **more: Any) -> dict[str, Any]:
        return {"row": name, "family": name, "bytes": size, "sqnr_db": None,
                "bits_per_weight": 8 * size / judge.size, "encode_seconds": None,
                "decode_seconds": None, "output_change": change} | more

    if judge.file_bytes:
        yield file("file: original", judge.file_bytes, 0.0)
    packers = [packer for packer in _general_compressors() if packer[0] != "zlib"]
    stock = convert(judge.model, ("int8", "static_int8"), calibration=judge.images)
    for plan, said in (("int8", "dynamic"), ("static_int8", "full")):
        if isinstance(stock[plan], bytes):
            yield file(f"file: LiteRT {said} int8", len(stock[plan]),
                       _litert_change(stock[plan], judge))
            for name, compress, _ in packers:
                yield file(f"file: LiteRT {said} int8, {name}", len(compress(stock[plan])))
    with tempfile.TemporaryDirectory() as folder:
        copy = keras.models.clone_model(judge.model)
        copy.set_weights(judge.model.get_weights())
        copy.quantize("int8")
        outputs = np.asarray(copy(judge.images, training=False))
        copy.save(Path(folder) / "quantised.keras")
        yield file("file: Keras quantize('int8')",
                   (Path(folder) / "quantised.keras").stat().st_size,
                   float(np.abs(outputs - judge.outputs).mean()))
        for name, flags in (("uUQ", {}), ("uTCQ", {"sqnr_db": 21.0}), ("uTCQ", {"sqnr_db": 15.0})):
            compression = Compression.parse(name, **flags)
            shared = share_model(judge.model, compression)
            sizes = write_container(
                Path(folder) / "model.h5",
                Container(shared, models.architecture_json(judge.model), None, ModelCard(),
                          name), overwrite=True)
            kernels = {path: shared.kernel(path) for path in shared.kernels}
            said = f"{flags['sqnr_db']:g} dB" if flags else "k=256"
            yield file(f"file: {name} {said}, no plans", sizes.total) | judge.judged(kernels, 0.0)


def _litert_change(flatbuffer: bytes, judge: Judge) -> float:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=flatbuffer)
    interpreter.allocate_tensors()
    entry, exit_ = (details[0]["index"] for details in (
        interpreter.get_input_details(), interpreter.get_output_details()))
    outputs = []
    for image in judge.images:
        interpreter.set_tensor(entry, image[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(exit_))
    return float(np.abs(np.concatenate(outputs) - judge.outputs).mean())


def _compared(curves: Sequence[dict[str, Any]], db: float) -> dict[str, float]:
    """Bits a weight of every family at one SQNR; none where its curve does not reach there."""
    found = {"sqnr_db": db}
    for family in dict.fromkeys(row["family"] for row in curves):
        points = sorted((row["sqnr_db"], row["bits_per_weight"]) for row in curves
                        if row["family"] == family)
        if len(points) > 1 and points[0][0] - 0.5 <= db <= points[-1][0] + 0.5:
            # A little beyond the ends along the outermost pieces.
            x, y = (np.array(side) for side in zip(*points, strict=True))
            at = int(np.clip(np.searchsorted(x, db), 1, len(x) - 1))
            slope = (y[at] - y[at - 1]) / max(x[at] - x[at - 1], 1e-9)
            found[family] = float(y[at - 1] + slope * (db - x[at - 1]))
    return found


def figure(rows: Sequence[dict[str, Any]], path: Path, name: str) -> None:
    """Bits a weight against SQNR, a line a family; and against a uniform grid's in percent."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = {"tfmot clusters, zlib": "#7f7f7f", "CWS, lzma (prior art)": "#000000",
               "CWS, rans": "#56B4E9", "CWS, context": "#004D80", "ECSQ, rans": "#009E73",
               "uniform, rans": "#E69F00",
               "uniform, context": "#CC79A7", "TCQ 8, context": "#D55E00",
               "TCQ 256, context": "#0072B2", "nncodec, λ 0": "#999933",
               "nncodec, λ 0.5": "#661100"}
    markers = dict(zip(colours, "x+sPv^D<o1*", strict=True))
    chart, (axes, relative) = plt.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
    curves = {family: np.array(sorted((row["sqnr_db"], row["bits_per_weight"]) for row in rows
                                      if row["family"] == family)) for family in colours}
    base = curves["uniform, rans"].T
    for family, points in curves.items():
        if not len(points):
            continue
        style = {"marker": markers[family], "color": colours[family], "markersize": 5,
                 "linewidth": 1.2}
        axes.plot(*points.T, label=family, **style)
        inside = points[(points[:, 0] >= base[0, 0]) & (points[:, 0] <= base[0, -1])]
        same = np.interp(inside[:, 0], *base)
        relative.plot(inside[:, 0], 100 * (inside[:, 1] / same - 1), **style)
    axes.set(xlabel="weight SQNR [dB]", ylabel="bits a weight", xlim=(6, 33), ylim=(0, 8))
    relative.set(xlabel="weight SQNR [dB]", ylim=(-40, 30),
                 ylabel="bytes against a uniform grid with rans [%]")
    relative.axhline(0, color="#E69F00", linewidth=0.6)
    chart.suptitle(name)
    axes.legend(frameon=False, fontsize=8)
    for panel in (axes, relative):
        panel.spines[["top", "right"]].set_visible(False)
    for suffix in ("png", "svg"):
        chart.savefig(path.with_suffix(f".{suffix}"), dpi=130)
    plt.close(chart)


if __name__ == "__main__":
    sys.exit(main())
