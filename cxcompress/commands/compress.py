"""`compress.py`: a Keras model in, a compressed `.h5` and the proof of what it costs out."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxcompress.commands.command_line import boolean, parser, run, start_tensorflow
from cxcompress.commands.data_flags import PREPROCESSINGS, add_data_flags, data_options
from cxcompress.errors import InputError
from cxcompress.evaluation import Ratios
from cxcompress.images import image_files
from cxcompress.quantization import Compression
from cxcompress.reporting.tables import byte_count, interval, number, ratio, text_table
from cxcompress.representation.prior_formulas import prior_sizes
from cxcompress.runs import RunFolder, atomic_path
from cxcompress.runtime import PLANS

if TYPE_CHECKING:
    from cxcompress.pipeline import CompressionResult
    from cxcompress.storage import ContainerSizes

BUNDLED_MODEL = Path("pretrained") / "small_cxr_synthetic.h5"
BUNDLED_DATA, BUNDLED_COUNT = "synthetic:cxr", 8000
CODERS = ("auto", "rans", "context", "index_map", "sparse_index_map", "huffman",
          "sparse_huffman", "raw", "smallest")
EXAMPLE = ("python experiments/compress.py --compression uCWS --net model.h5 "
           "--data_path images --clustercnn 256 --clusterfc 256")


def build_parser() -> argparse.ArgumentParser:
    """The flags of `compress.py`; the prior work's keep their names."""
    parse = parser("compress.py", "Compress a Keras model by weight sharing and measure what that "
                   "costs the diagnosis.", EXAMPLE)
    add = parse.add_argument
    add("--compression", default="uCWS", help="UQ, CWS, PWS, ECSQ or TCQ; u… = one codebook for "
        "all convolutions and one for all dense layers; pr… = prune first; pr alone (uCWS)")
    add("--net", help="a .keras, .h5 or .hdf5 model (default: a bundled model and generated data)")
    add("--data_path", help="images to judge the model by: train|val|test/<class>/… , an .npz, "
        "medmnist:<name>, synthetic:cxr. Without it the model is quantised only")
    add("--count", type=int, help="images to generate, where --data_path is synthetic:…")
    add("--clustercnn", type=int, default=256, metavar="K",
        help="shared values of convolutions; 0 leaves them float (256)")
    add("--clusterfc", type=int, default=256, metavar="K",
        help="shared values of dense layers; 0 leaves them float (256)")
    add("--prcnn", type=float, default=0, metavar="PERCENT",
        help="percent of each convolution's weights to prune first, 0 to 100; needs pr… (0)")
    add("--prfc", type=float, default=0, metavar="PERCENT",
        help="percent of each dense layer's weights to prune first, 0 to 100; needs pr… (0)")
    add("--keep_float", nargs="+", default=[], metavar="LAYER",
        help="layers or kernels to leave as they are, by name")
    add("--tr", type=float, default=None,
        help="ECSQ: relative change of its cost at which it has converged")
    add("--lambd", type=float, default=None,
        help="ECSQ: weight of the rate, instead of finding it for K levels")
    add("--sqnr", type=float, default=None, metavar="DB",
        help="TCQ: signal-to-noise ratio of the weights to reach, in dB, instead of K levels")
    add("--coder", default="auto", choices=CODERS,
        help="how index maps are stored: rans decodes fastest, context is smallest for TCQ and "
        "for kernels of many scales, smallest tries all; auto is context for TCQ, else rans (auto)")
    add("--sensitivity", choices=("none", "fisher", "channels"), default="none",
        help="fisher: a weight's error counts by how much it changes the outputs (squared "
        "gradients on 64 training images); TCQ with --sqnr then gives each layer its bits; "
        "channels: and each output channel before a BatchNormalization (none)")
    add("--preprocessing", default="auto", choices=PREPROCESSINGS,
        help="scale of the network's input; auto finds it out and says so (auto)")
    add("--classes", help="class names in the order of the model's outputs, comma-separated")
    add("--margin", type=float, default=0.02,
        help="non-inferiority margin, absolute, in the metric's units (0.02)")
    add("--no_sensitivity", action="store_true",
        help="do not measure what each layer alone does to the output")
    add("--internal_ho", type=boolean, default=False, metavar="True|False",
        help="True: judge on validation and leave the test part alone. False: fine-tune again on "
        "train and validation for the epochs found, and judge on test (False)")
    add("--epochs", type=int, default=0,
        help="most epochs of fine-tuning the shared values; 0 quantises only (0)")
    add("--minibatch", type=int, default=32, help="images a step (32)")
    add("--learning_rate", type=float, default=1e-3,
        help="fine-tuning: Adam's learning rate of biases, BatchNormalization and latent weights "
        "(0.001)")
    add("--lr_cumulative", type=float, default=1e-3,
        help="fine-tuning: Adam's learning rate of the shared values (0.001)")
    add("--ptnc", type=int, default=5,
        help="fine-tuning: epochs without improvement on validation before it stops, counted from "
        "half of --epochs on where the rates fall (5)")
    add("--lr_schedule", choices=("cosine", "constant"), default="cosine",
        help="fine-tuning: cosine lets both learning rates fall to 0 over --epochs, constant keeps "
        "them (cosine)")
    add("--assign", choices=("fixed", "learned"), default="learned",
        help="fixed: every weight keeps its shared value's index; learned: latent float weights "
        "train and indices follow, which few shared values need (learned)")
    add("--distill", type=boolean, default=True, metavar="True|False",
        help="fine-tuning: the original model's outputs are targets beside the labels, and the "
        "only ones where images have no labels (True)")
    add("--grid", choices=("int8", "free"), default=None,
        help="fine-tuning: int8 keeps shared values integers times one step, free lets them be "
        "any float (int8 for UQ, free for the others)")
    add("--bn_statistics", choices=("auto", "keep", "estimate"), default="auto",
        help="moving means and variances of BatchNormalization after quantisation: estimate them "
        "again on training images, keep them, or auto: estimate, and keep the estimate where it "
        "lowers the validation loss by a tenth or more (auto)")
    add("--unshared", choices=("exact", "compact"), default="exact",
        help="biases and BatchNormalization: exact, or compact, in a quarter of the bytes, as "
        "16-bit scale and shift, for a file that only answers and is not trained on (exact)")
    add("--gradual", action="store_true",
        help="fine-tuning: from 16 times and 4 times as many shared values down to those asked "
        "for, over the first half of the epochs; needs --assign learned")
    add("--augment", action="store_true", help="fine-tuning: change training images a little in "
        "every epoch, as train.py --augment does; a network that was trained so needs it")
    add("--crop", type=int, metavar="PIXELS", help="fine-tuning on fields of nuclei: side of the "
        "squares trained on, cut out, turned and mirrored anew in every epoch (whole fields)")
    add("--strategy", choices=("none", "mirrored"), default="none",
        help="fine-tuning: mirrored uses all GPUs of this machine, with the result of one (none)")
    add("--plans", nargs="+", choices=(*PLANS, "none"), default=list(PLANS),
        help="ways to run the file without TensorFlow that are stored in it: float32; int8, "
        "weights int8; static_int8, activations too, with ranges from training images; or none "
        "(all)")
    add("--check_images", metavar="DIR",
        help="pictures that the plans are compared on; the file keeps outputs of the first four, "
        "never the pictures, so that cxcompress bench --check_images can compare elsewhere "
        "(generated inputs)")
    add_data_flags(parse)
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(compress_command(arguments).text), argv)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the command leaves behind, for the commands that build on it."""

    folder: Path
    container: Path
    result: CompressionResult
    sizes: ContainerSizes
    text: str


def run_stem(arguments: argparse.Namespace) -> str:
    """`<prfc-prcnn-kfc-kcnn-lr-lrcum-patience-epochs>`, the name of the run's folder.

    What `--sqnr`, `--sensitivity` and `--unshared` say comes after it, so that such runs lie
    side by side.
    """
    extra = "" if arguments.sqnr is None else f"-{arguments.sqnr:g}dB"
    extra += "" if arguments.sensitivity == "none" else f"-{arguments.sensitivity}"
    extra += "" if arguments.unshared == "exact" else f"-{arguments.unshared}"
    return "-".join(
        f"{value:g}" for value in (
            arguments.prfc, arguments.prcnn, arguments.clusterfc, arguments.clustercnn,
            arguments.learning_rate, arguments.lr_cumulative, arguments.ptnc, arguments.epochs)
    ) + extra


def compress_command(arguments: argparse.Namespace) -> Outcome:
    """Compress, write the run folder and return what was found.

    Raises:
        InputError: If a flag, a file or the data cannot be used.
    """
    if not 0 < arguments.margin < 1:
        raise InputError(f"--margin {arguments.margin:g}: must lie between 0 and 1, e.g. 0.02")
    compression = Compression.parse(
        arguments.compression, clustercnn=arguments.clustercnn, clusterfc=arguments.clusterfc,
        prcnn=arguments.prcnn, prfc=arguments.prfc, keep_float=arguments.keep_float,
        tr=arguments.tr, lambd=arguments.lambd, sqnr_db=arguments.sqnr)
    net, data, count = arguments.net, arguments.data_path, arguments.count
    if net is None:
        net, data, count = bundled_model(), data or BUNDLED_DATA, count or BUNDLED_COUNT
    if not Path(net).is_file():
        raise InputError(f"--net {net}: no such file")
    if arguments.check_images is not None:
        image_files([arguments.check_images])  # before the work, not after it

    start_tensorflow()
    from cxcompress.pipeline import FineTuning, compress
    from cxcompress.pipeline.inputs import file_sha256
    from cxcompress.pipeline.tuning import forget

    fine_tuning = FineTuning(
        epochs=arguments.epochs, learning_rate=arguments.learning_rate,
        lr_cumulative=arguments.lr_cumulative, batch_size=arguments.minibatch,
        patience=arguments.ptnc, assign=arguments.assign, grid=arguments.grid,
        distill=arguments.distill, gradual=arguments.gradual,
        retrain=not arguments.internal_ho, strategy=arguments.strategy, crop=arguments.crop,
        augment=arguments.augment, lr_schedule=arguments.lr_schedule)

    described = vars(arguments) | {"net": str(net), "net_sha256": file_sha256(Path(net)),
                                   "data_path": data, "count": count}
    for name in ("output_path", "overwrite", "strategy"):
        described.pop(name)
    path = Path(arguments.output_path) / compression.name / run_stem(arguments)
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        result = compress(
            net, labelled_folder(data, arguments), compression, count=count,
            preprocessing=arguments.preprocessing,
            classes=class_names(arguments.classes), fine_tuning=fine_tuning,
            bn_statistics=arguments.bn_statistics,
            judge_on="val" if arguments.internal_ho else "test", margin=arguments.margin,
            batch_size=arguments.minibatch, sensitivity=not arguments.no_sensitivity,
            seed=arguments.seed, units_folder=path / "units",
            plans=[name for name in arguments.plans if name != "none"],
            check_images=arguments.check_images, importance=arguments.sensitivity,
            unshared=arguments.unshared)
        container = path / f"{path.name}-{metric_suffix(result)}.h5"
        # An interrupted run may have written it already; it is the same file.
        sizes = result.save(container, coder=arguments.coder, overwrite=True)
        text = write_results(folder, result, sizes, container, Path(net).stat().st_size)
        forget(path / "units")
    return Outcome(path, container, result, sizes, text)


def labelled_folder(data: str | None, arguments: argparse.Namespace):
    """A folder as a collection, opened as `--strict` and its like say; all other data as named.

    Raises:
        InputError: If the folder cannot be used.
    """
    from cxcompress.data import open_collection

    if data is None or not Path(data).is_dir():
        return data
    return open_collection(data, **data_options(arguments))


def class_names(text: str | None) -> list[str] | None:
    """The names of a comma-separated list, or None."""
    return None if text is None else [name.strip() for name in text.split(",")]


def bundled_model() -> Path:
    """The model that ships with the repository.

    Raises:
        InputError: If this is an installation without it.
    """
    path = Path(__file__).resolve().parents[2] / BUNDLED_MODEL
    if not path.is_file():
        raise InputError(f"no --net given, and this installation has no {BUNDLED_MODEL}; "
                         "give --net, or work in a clone of the repository")
    return path


def metric_suffix(result: CompressionResult) -> str:
    """The end of the container's name: macro AUROC (nuclei: F1), or the weights' SQNR."""
    for name, metric in (("auroc", "auroc_macro"), ("f1_", "f1_macro")):
        if metric in result.after:
            return f"{name}{number(result.after[metric].value, 4)}"
    return f"sqnr{number(result.sqnr_db, 1)}dB"


def write_results(
    folder: RunFolder, result: CompressionResult, sizes: ContainerSizes, container: Path,
    file_bytes: int,
) -> str:
    """Write tables, figures and the report of a result; returns the text for the terminal."""
    from cxcompress.reporting.compression_report import write_report

    summary = size_rows(result, sizes, file_bytes)
    metrics = metric_rows(result)
    classes = class_table(result)
    layers = layer_rows(result, sizes)
    folder.write_json("results.json", folder.record | {
        "state": "done", "container": container.name, "sizes": sizes, "summary": summary,
        "synthetic": result.synthetic, "notes": list(result.notes), "layers": result.layers,
        "before": result.before, "after": result.after, "judged_on": result.judged_on,
        "stages": result.stages, "fine_tuning": tuning_record(result),
        "comparison": result.comparison.to_dict() if result.comparison else None,
        "plans": result.plans})
    folder.write_csv(f"results_compression_{result.container.compression}.csv",
                     results_rows(result, sizes, file_bytes))
    folder.write_csv("layers.csv", [dataclasses.asdict(layer) for layer in result.layers])
    if result.tuned is not None:
        folder.write_csv("fine_tuning.csv", epoch_rows(result))
    for name in ("original", "quantised", "compressed"):
        record = getattr(result, name)
        if record is not None:
            with atomic_path(folder.path / f"predictions_{name}.npz") as temporary:
                record.save(temporary)
    plans = plan_rows(result)
    write_report(folder.path, result, sizes, summary, metrics, layers, plans)
    parts = [*(f"note: {note}" for note in result.notes), "",
             text_table(summary, right=("value",)), ""]
    if metrics:
        # Findings have a table of their own, a row each.
        shown = [row for row in metrics if not classes or ":" not in row["metric"]]
        parts += [text_table(shown, right=("n", "positives")), ""]
        if classes:
            folder.write_csv("classes.csv", classes)
            parts += [text_table(classes, right=("positive / n",)), ""]
        parts += [f"judged on {result.judged_on}, {len(result.original.image_id)} images"
                  + ("" if math.isnan(result.largest_change) else
                     f"; largest change of any probability {result.largest_change:.4f}"),
                  *result.comparison.summary(), ""]
    if plans:
        parts += [text_table(plans), ""]
    parts += [text_table(layers, right=tuple(layers[0])[2:]), "",
              f"compressed file  {container}", f"report           {folder.path}/report.html",
              "cxcompress is a research tool, not a medical device."]
    return "\n".join(parts)


def size_rows(
    result: CompressionResult, sizes: ContainerSizes, file_bytes: int
) -> list[dict[str, str]]:
    """The table of bytes and ratios, as text."""
    ratios = Ratios.of(container_bytes=sizes.total, parameters=result.parameters,
                       file_bytes=file_bytes)
    rows = {
        "original, 4 bytes a parameter": byte_count(ratios.space_ratio.original),
        "original file as given": byte_count(file_bytes),
        "compressed file": byte_count(sizes.total),
        "space_ratio (compressed / 4 bytes a parameter)": ratio(ratios.space_ratio),
        "file_ratio (compressed / file as given, which may hold optimizer state)":
            ratio(ratios.file_ratio),
    }
    if result.container.shared.kernels:
        prior = prior_sizes(result.container.shared)
        rows |= {
            "bits_per_weight (all that the shared kernels need)": number(sizes.bits_per_weight),
            "entropy of the index maps, bits a weight": number(result.entropy_bits),
            "weight SQNR": f"{number(result.sqnr_db, 1)} dB",
            "prior_space_ratio (the prior scripts' formula, original / compressed)":
                number(prior["prior_space_ratio"]),
            "psi_index_map (the papers' formula, compressed / original)":
                number(prior["psi_index_map"]),
        }
    return [{"what": name, "value": value} for name, value in rows.items()]


def metric_rows(result: CompressionResult) -> list[dict[str, str]]:
    """The table of metrics at every stage, as text; empty without labelled data."""
    if result.comparison is None:
        return []
    return [
        {"metric": change.metric}
        | {f"{stage} (95% interval)": interval(estimates[change.metric])
           for stage, estimates in result.stages.items()}
        | {"difference, higher is better": interval(change.difference, 4, sign=True),
           "verdict": change.verdict or "", "n": f"{result.after[change.metric].n}",
           "positives": f"{result.after[change.metric].positives}"}
        for change in result.comparison.changes]


def class_table(result: CompressionResult) -> list[dict[str, str]]:
    """Each finding before and after, with paired intervals of the differences, as text.

    Empty unless the task is multilabel.
    """
    if result.comparison is None or result.container.card.task != "multilabel":
        return []
    changes = {change.metric: change for change in result.comparison.changes}
    rows = []
    for name in result.container.card.classes:
        area, precision = changes[f"auroc:{name}"], changes[f"average_precision:{name}"]
        row = {"finding": name, "positive / n": f"{result.after[area.metric].positives} / "
                                                f"{result.after[area.metric].n}"}
        for title, change in (("AUROC", area), ("AP", precision)):
            row |= {f"{title} before": interval(result.before[change.metric]),
                    f"{title} after": interval(result.after[change.metric]),
                    f"{title} difference": interval(change.difference, sign=True)}
        rows.append(row | {"verdict": area.verdict or ""})
    return rows


def plan_rows(result: CompressionResult) -> list[dict[str, str]]:
    """The table of execution plans, as text."""
    rows = []
    for report in result.plans:
        row = {"plan, without TensorFlow": report.plan + (
                   "  (auto)" if report.recommended else ""),
               "an image": f"{1e3 * report.seconds:.2f} ms",
               "time_ratio (against the compiled Keras call)":
                   f"{number(report.time_ratio)} (1/{number(1 / report.time_ratio, 1)})",
               "largest output difference": number(report.difference, 5)}
        for metric in ("auroc_macro", "f1_macro", "accuracy"):
            if metric in report.metrics:
                row[f"{metric} (95% interval)"] = interval(report.metrics[metric])
        rows.append(row)
    return rows


def tuning_record(result: CompressionResult) -> dict[str, Any] | None:
    """What fine-tuning did, for `results.json`; None where the model was not fine-tuned."""
    if result.tuned is None:
        return None
    return {"settings": result.container.card.provenance["fine_tuning"],
            "history": result.tuned.history, "best_epoch": result.tuned.best_epoch}


def epoch_rows(result: CompressionResult) -> list[dict[str, Any]]:
    """One row an epoch of fine-tuning, the state before it first."""
    history = result.tuned.history
    return [{"epoch": epoch, "loss": loss, "val_loss": val_loss,
             "best": epoch == result.tuned.best_epoch}
            for epoch, (loss, val_loss) in enumerate(
                zip(history["loss"], history["val_loss"], strict=True))]


def layer_rows(result: CompressionResult, sizes: ContainerSizes) -> list[dict[str, str]]:
    """The table of layers, as text, under Keras' names."""
    return [
        {
            "kernel": layer.kernel,
            "shape": "×".join(map(str, layer.shape)),
            "levels": "float" if layer.levels is None else str(layer.levels),
            "bits a weight": number(sizes.kernels[layer.kernel].bits_per_weight
                                    if layer.kernel in sizes.kernels else 32, 2),
            "SQNR dB": "exact" if layer.sqnr_db == float("inf") else number(layer.sqnr_db, 1),
            "zeros %": number(100 * layer.sparsity, 1),
            "output change %": number(100 * layer.output_change, 3),
            "loss change": number(layer.loss_change, 5),
        }
        for layer in result.layers
    ]


def results_rows(
    result: CompressionResult, sizes: ContainerSizes, file_bytes: int
) -> list[dict[str, Any]]:
    """One row a number, for the results CSV: sizes, then every metric at every stage."""
    ratios = Ratios.of(container_bytes=sizes.total, parameters=result.parameters,
                       file_bytes=file_bytes)
    rows = [
        {"stage": "container", "metric": name, "value": value, "low": "", "high": "", "n": "",
         "positives": "", "patients": "", "method": "counted"}
        for name, value in (
            ("bytes", sizes.total), ("parameters", result.parameters),
            *ratios.to_dict().items(), ("bits_per_weight", sizes.bits_per_weight),
            ("entropy_bits", result.entropy_bits),
            ("sqnr_db", result.sqnr_db), ("largest_change", result.largest_change),
            *prior_sizes(result.container.shared).items())
    ]
    for stage, estimates in result.stages.items():
        rows += [{"stage": stage, "metric": name} | dataclasses.asdict(estimate)
                 for name, estimate in estimates.items()]
    for report in result.plans:
        rows += [{"stage": f"plan {report.plan}", "metric": name, "value": value, "low": "",
                  "high": "", "n": "", "positives": "", "patients": "", "method": "measured"}
                 for name, value in (("seconds", report.seconds),
                                     ("time_ratio", report.time_ratio),
                                     ("output_difference", report.difference))]
        rows += [{"stage": f"plan {report.plan}", "metric": name} | dataclasses.asdict(estimate)
                 for name, estimate in report.metrics.items()]
    for change in result.comparison.changes if result.comparison else ():
        rows.append({"stage": "difference", "metric": change.metric}
                    | dataclasses.asdict(change.difference))
    return rows
