"""Whole processes that open a network and answer: Keras, stock LiteRT, ONNX Runtime, and ours.

Models: PathoNet at 256 pixels with 3 maps; ResNet50, DenseNet121, EfficientNetB0 and MobileNetV2 at
224 pixels with 14 outputs. Their weights are **drawn**, not trained: Laplace kernels whose spread
changes from channel to channel, BatchNormalization factors of both signs, moving statistics
estimated on the inputs. Bytes, times and memory carry over to trained weights; output differences
do so only roughly. `--net` takes a trained file instead. Treatment: UQ, k = 76, one codebook
a layer: a weight SQNR just above 21 dB (it is in the table). Inputs: 8 smooth noise pictures;
activation ranges come from 16 others.

Measurement: every row is a fresh process, `--rounds` times in turns: cold start (process start to
first answer), median latency of `REPEATS` calls, peak resident memory; medians over rounds. Output
differences from the original Keras model, and for int8 rows from the float32 graph of the same
weights. The stock converter's files have a fixed batch of 1, its fastest form. ONNX Runtime's rows
need `pip install onnxruntime onnx tf2onnx`. Output: a table, a CSV, a JSON file and a figure.

    python experiments/benchmarks/runtime.py --models resnet50 pathonet --output_path results
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

MODELS = {"pathonet": (256, 3), "resnet50": (224, 14), "densenet121": (224, 14),
          "efficientnetb0": (224, 14), "mobilenetv2": (224, 14)}
REPEATS = 15
WARM_UP = 4
SLOW = ("Keras predict", "Keras compiled")
"""Rows of which one round less is run: they take most of the time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    from cxcompress.commands.command_line import parser, run

    parse = parser("runtime.py", "Latency, cold start, memory and file size beside peers.",
                   "python experiments/benchmarks/runtime.py --models resnet50")
    parse.add_argument("--models", nargs="+", choices=tuple(MODELS), default=list(MODELS))
    parse.add_argument("--net", help="a trained model file instead of --models")
    parse.add_argument("--compression", default="UQ", help="as for compress.py (UQ)")
    parse.add_argument("--clustercnn", type=int, default=76, metavar="K",
                       help="shared values, of dense layers too (76)")
    parse.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parse.add_argument("--rounds", type=int, default=3)
    return run(parse, lambda arguments: print(benchmark(arguments)), argv)


def benchmark(arguments: argparse.Namespace) -> str:
    """Prepare every network's files, measure all rows in turns, and return the tables."""
    from cxcompress.commands.command_line import start_tensorflow
    from cxcompress.reporting.tables import text_table
    from cxcompress.runs import RunFolder

    start_tensorflow()
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    root = Path(arguments.output_path) / "runtime"
    names = [Path(arguments.net).stem] if arguments.net else arguments.models
    rows: list[dict[str, Any]] = []
    with RunFolder.open(root, described, overwrite=arguments.overwrite) as folder:
        for name in names:
            files = prepare(name, root / "files" / name, arguments)
            rows += measured(name, files, arguments.threads, arguments.rounds)
            folder.write_json("results.json", folder.record | {"state": "running", "rows": rows})
        folder.write_csv("runtime.csv", rows)
        folder.write_json("results.json", folder.record | {"state": "done", "rows": rows})
        figure(rows, root / "runtime")
    return "\n\n".join(text_table([_text(row) for row in rows if row["model"] == name])
                       for name in names)


def drawn_model(name: str, seed: int):
    """A built-in network with trained-like weights; and 24 inputs."""
    import keras

    from cxcompress import models
    from cxcompress.training.normalization import estimate_statistics

    size, classes = MODELS[name]
    random = np.random.default_rng(seed)
    coarse = random.random((24, size // 8, size // 8, 3), np.float32)
    inputs = np.kron(coarse, np.ones((1, 8, 8, 1), np.float32))
    keras.utils.set_random_seed(seed)
    activation = None if name == "pathonet" else "sigmoid"
    model = models.build(name, (size, size, 3), classes, **(
        {} if activation is None else {"activation": activation}))
    arrays = models.weights(model)
    for path, array in arrays.items():
        if path.endswith("gamma"):
            arrays[path] = (random.uniform(0.5, 1.5, array.shape)
                            * random.choice([-1, 1], array.shape, p=[0.1, 0.9]))
        elif path.endswith("beta"):
            arrays[path] = random.normal(0, 0.2, array.shape)
        elif array.ndim > 1:
            fan = np.prod(array.shape[:-1]) if array.shape[-1] > 1 else np.prod(array.shape[:2])
            spread = np.sqrt(1 / fan) * np.exp(random.normal(0, 0.3, array.shape[-1]))
            arrays[path] = random.laplace(0, 1, array.shape) * spread
        arrays[path] = np.asarray(arrays[path], array.dtype)
    models.set_weights(model, arrays)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, number):
            return inputs[number * 8:number * 8 + 8]

    estimate_statistics(model, Batches())
    return model, inputs


def prepare(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write every row's file; returns rows as name → (kind of process, file)."""
    from cxcompress import models
    from cxcompress.conversion.litert_converter import PLANS, convert
    from cxcompress.conversion.plans import build_plans
    from cxcompress.pipeline.layer_reports import layer_reports
    from cxcompress.pipeline.sharing import share_model
    from cxcompress.quantization import Compression
    from cxcompress.storage import Container, ModelCard, write_container

    folder.mkdir(parents=True, exist_ok=True)
    net, seed = arguments.net, arguments.seed
    if net:
        model = models.load_model(net)
        inputs = np.random.default_rng(seed).random((24, *model.inputs[0].shape[1:]), np.float32)
        if models.ends.rescales_input(model):
            inputs *= 255
    else:
        model, inputs = drawn_model(name, seed)
    if name.startswith("efficientnet") and not net:
        inputs = inputs * 255
    np.save(folder / "inputs.npy", inputs[16:])
    model.save(folder / "model.keras")
    np.save(folder / "expected.npy", np.asarray(model(inputs[16:], training=False)))
    rows: dict[str, Any] = {kind: (kind, folder / "model.keras") for kind in SLOW}
    stock = convert(model, PLANS, calibration=inputs[:16])
    for plan, said in zip(PLANS, ("float32", "dynamic int8", "full int8"), strict=True):
        (folder / f"stock-{plan}.tflite").write_bytes(stock[plan])
        rows[f"LiteRT {said}"] = ("litert", folder / f"stock-{plan}.tflite")
    rows |= onnx_files(model, inputs[:16], folder)
    compression = Compression.parse(arguments.compression, clustercnn=arguments.clustercnn,
                                    clusterfc=arguments.clustercnn)
    shared = share_model(model, compression, seed)
    layers = layer_reports(model, shared, inputs[:0], None, None, None)
    plans = build_plans(model, shared, inputs[:16])
    print(*plans.notes, file=sys.stderr)
    container = folder / "model.h5"
    sizes = write_container(container, Container(
        shared, models.architecture_json(model), plans.graphs, ModelCard(), compression.name),
        overwrite=True)
    signal, noise = (sum(getattr(layer, part) for layer in layers if layer.levels is not None)
                     for part in ("signal", "noise"))
    for plan in plans.graphs:
        rows[f"ours {plan}"] = ("ours " + plan, container)
    return {"rows": rows, "inputs": folder / "inputs.npy", "expected": folder / "expected.npy",
            "sqnr_db": 10 * float(np.log10(signal / noise)),
            "bits_per_weight": sizes.bits_per_weight, "parameters": model.count_params()}


def onnx_files(model, calibration, folder: Path) -> dict[str, Any]:
    """ONNX Runtime's rows; none where its packages are missing or it cannot take the model."""
    try:
        import tf2onnx
        from onnxruntime.quantization import (
            CalibrationDataReader,
            QuantFormat,
            QuantType,
            quantize_static,
        )
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError:
        print("ONNX Runtime left out: pip install onnxruntime onnx tf2onnx", file=sys.stderr)
        return {}
    import tensorflow as tf

    path, ready, static = (folder / f"{part}.onnx" for part in ("float32", "ready", "static"))
    try:
        signature = [tf.TensorSpec((1, *model.inputs[0].shape[1:]), tf.float32, name="input")]
        call = tf.function(lambda x: model(x, training=False), input_signature=signature)
        tf2onnx.convert.from_function(call, signature, opset=17, output_path=str(path))

        class Reader(CalibrationDataReader):
            def __init__(self):
                self.left = iter([{"input": image[None]} for image in calibration])

            def get_next(self):
                return next(self.left, None)

        quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
        quantize_static(str(ready), str(static), Reader(), quant_format=QuantFormat.QDQ,
                        per_channel=True, weight_type=QuantType.QInt8,
                        activation_type=QuantType.QUInt8)
    except Exception as error:  # the exporter refuses some networks, in many ways
        print(f"ONNX Runtime left out: {type(error).__name__}: {str(error)[:120]}",
              file=sys.stderr)
        return {}
    return {"ONNX Runtime float32": ("onnx", path), "ONNX Runtime static int8": ("onnx", static)}


def measured(name: str, files: dict[str, Any], threads: Sequence[int], rounds: int) -> list[dict]:
    """One row a kind of process and number of threads: medians over the rounds."""
    from cxcompress.runs import progress

    found: dict[tuple, list[dict]] = {}
    jobs = [(row, count, turn) for turn in range(rounds) for count in threads
            for row in files["rows"] if row not in SLOW or (turn < max(1, rounds - 1)
                                                            and count == max(threads))]
    for row, count, _ in progress(jobs, name, total=len(jobs)):
        kind, path = files["rows"][row]
        found.setdefault((row, count), []).append(
            _child(kind, path, count, files["inputs"], path.parent / f"{row}-{count}.npy"))
    expected = np.load(files["expected"])
    floats = {"LiteRT": "LiteRT float32", "ours": "ours float32", "ONNX": "ONNX Runtime float32"}
    rows = []
    for (row, count), runs in found.items():
        kind, path = files["rows"][row]
        outputs = np.load(path.parent / f"{row}-{count}.npy")
        base = floats.get(row.split()[0])
        own = np.load(path.parent / f"{base}-{count}.npy") if base else expected
        medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        rows.append({
            "model": name, "row": row, "threads": count, "bytes": path.stat().st_size, **medians,
            "largest_difference": float(np.abs(outputs - expected).max()),
            "mean_difference": float(np.abs(outputs - expected).mean()),
            "mean_difference_from_float32": float(np.abs(outputs - own).mean()),
            "rounds": len(runs),
            "sqnr_db": files["sqnr_db"] if row.startswith("ours") else None,
            "bits_per_weight": files["bits_per_weight"] if row.startswith("ours") else None,
            "parameters": files["parameters"]})
    keras = {row["row"]: row["latency_seconds"] for row in rows if row["row"] in SLOW}
    for row in rows:
        same = row["threads"] == max(threads)
        for kind, ratio in (("Keras compiled", "time_ratio"),
                            ("Keras predict", "time_ratio_predict")):
            row[ratio] = row["latency_seconds"] / keras[kind] if same else None
    return rows


def _child(kind: str, path: Path, threads: int, inputs: Path, outputs: Path) -> dict[str, float]:
    environment = os.environ | {
        "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "TF_NUM_INTRAOP_THREADS": str(threads)}
    child = subprocess.run(
        [sys.executable, __file__, "--child", kind, path, str(threads), inputs, outputs,
         repr(time.time())], capture_output=True, text=True, env=environment)
    if child.returncode:
        raise RuntimeError(f"{kind} {path}: {child.stderr.strip().splitlines()[-1:]}")
    return json.loads(child.stdout.splitlines()[-1])


def _run_child(kind: str, path: str, threads: int, inputs: str, outputs: str, started: float):
    images = np.load(inputs)
    call = _caller(kind, path, threads)
    call(images[:1])
    cold = time.time() - started
    seconds = []
    for turn in range(WARM_UP + REPEATS):
        begin = time.perf_counter()
        call(images[:1])
        if turn >= WARM_UP:
            seconds.append(time.perf_counter() - begin)
    from cxcompress.runtime.measuring import own_peak_bytes

    peak = own_peak_bytes()
    np.save(outputs, np.concatenate([np.asarray(call(image[None])) for image in images]))
    print(json.dumps({"latency_seconds": statistics.median(seconds),
                      "cold_start_seconds": cold, "peak_bytes": peak}))


def _caller(kind: str, path: str, threads: int):
    """What answers for one input in this process; only the libraries of its kind are imported."""
    if kind == "litert":
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=path, num_threads=threads)
        interpreter.allocate_tensors()
        entry, exit_ = (details[0]["index"] for details in (
            interpreter.get_input_details(), interpreter.get_output_details()))

        def call(image):
            interpreter.set_tensor(entry, image)
            interpreter.invoke()
            return interpreter.get_tensor(exit_)

        return call
    if kind == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        entry = session.get_inputs()[0].name
        return lambda image: session.run(None, {entry: image})[0]
    if kind.startswith("ours"):
        from cxcompress import runtime

        return runtime.load(path, kind.split()[1], threads).predict
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    import keras

    model = keras.models.load_model(path, compile=False)
    if kind == "Keras predict":
        return lambda image: model.predict(image, verbose=0)
    compiled = tf.function(lambda x: model(x, training=False))
    return lambda image: np.asarray(compiled(tf.constant(image)))


def figure(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Latency against file size, a panel a network; colour: runtime, shape: arithmetic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    names = list(dict.fromkeys(row["model"] for row in rows))
    chart, panels = plt.subplots(1, len(names), figsize=(2.6 * len(names) + 0.4, 3.6),
                                 squeeze=False, layout="constrained")
    colours = {"Keras": "#7f7f7f", "LiteRT": "#E69F00", "ONNX Runtime": "#CC79A7",
               "ours": "#0072B2"}
    shapes = {"predict": "x", "compiled": "+", "float32": "s", "dynamic int8, int8": "^",
              "full, static int8": "o"}

    def shape(row: str) -> str:
        if "static" in row or "full" in row:
            return "o"
        return "^" if "int8" in row else shapes[row.split()[-1]]

    most = max(row["threads"] for row in rows)
    for panel, name in zip(panels[0], names, strict=True):
        for row in rows:
            if row["model"] == name and row["threads"] == most:
                colour = next(value for key, value in colours.items()
                              if row["row"].startswith(key))
                panel.plot(row["bytes"] / 1e6, 1e3 * row["latency_seconds"], shape(row["row"]),
                           color=colour, markersize=8, markeredgewidth=1.6,
                           fillstyle="full" if row["row"].startswith("ours") else "none")
        panel.set(xscale="log", yscale="log", title=name, xlabel="file [MB]")
        panel.margins(0.15)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel(f"one image, {most} threads [ms]")
    handles = [plt.Line2D([], [], color=colour, marker="D", linestyle="", label=label,
                          fillstyle="full" if label == "ours" else "none")
               for label, colour in colours.items()]
    handles += [plt.Line2D([], [], color="black", marker=marker, linestyle="", label=label,
                           fillstyle="none") for label, marker in shapes.items()]
    chart.legend(handles=handles, loc="outside upper center", ncols=9, frameon=False,
                 handletextpad=0.1, columnspacing=1.2)
    for suffix in ("png", "svg"):
        chart.savefig(path.with_suffix(f".{suffix}"), dpi=130)
    plt.close(chart)


def _text(row: dict[str, Any]) -> dict[str, str]:
    ratio = row["time_ratio"]
    return {
        "model": row["model"], "runtime": row["row"], "threads": str(row["threads"]),
        "file": f"{row['bytes'] / 1e6:.2f} MB" + (
            f", {row['sqnr_db']:.1f} dB" if row["sqnr_db"] else ""),
        "cold start": f"{row['cold_start_seconds']:.2f} s",
        "peak memory": f"{row['peak_bytes'] / 1e6:.0f} MB",
        "one image": f"{1e3 * row['latency_seconds']:.2f} ms",
        "time_ratio": "" if ratio is None else f"{ratio:.3f}",
        "against predict": "" if ratio is None else f"{row['time_ratio_predict']:.3f}",
        "largest, mean difference":
            f"{row['largest_difference']:.2g}, {row['mean_difference']:.2g}",
        "mean from float32": f"{row['mean_difference_from_float32']:.2g}"}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _run_child(sys.argv[2], sys.argv[3], int(sys.argv[4]), *sys.argv[5:7],
                   float(sys.argv[7]))
    else:
        sys.exit(main())
