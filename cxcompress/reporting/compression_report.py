"""The figures and the page of one compression: what it saved, what it cost, which layer hurts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cxcompress.reporting import figures
from cxcompress.reporting.html import Page

if TYPE_CHECKING:
    from cxcompress.pipeline import CompressionResult
    from cxcompress.storage import ContainerSizes

SYNTHETIC = "Model or images are generated: these numbers say how the tool works, not how any " \
            "diagnosis would fare."


def draw_figures(folder: Path, result: CompressionResult, sizes: ContainerSizes) -> None:
    """Write the figures (`.png` and `.svg`) to the folder.

    `sizes` and `layers`; `fine_tuning` where there was some; `differences` with labelled data.
    """
    figures.sizes(folder / "sizes", 4 * result.parameters, sizes.parts())
    figures.layer_sensitivity(folder / "layers", [
        {"kernel": layer.kernel, "sqnr_db": layer.sqnr_db, "output_change": layer.output_change}
        for layer in result.layers if layer.levels is not None])
    if result.tuned is not None:
        figures.fine_tuning(folder / "fine_tuning", result.tuned.history, result.tuned.best_epoch)
    if result.comparison is not None:
        primary = "auroc:" if "auroc_macro" in result.after else "f1:"
        figures.differences(folder / "differences", [
            {"name": change.metric.removeprefix(primary), "difference": change.difference.value,
             "low": change.difference.low, "high": change.difference.high,
             "verdict": change.verdict, "positives": change.difference.positives}
            for change in result.comparison.changes if change.metric.startswith(primary)
        ], result.comparison.margin, metric="AUROC" if primary == "auroc:" else "F1")


def compression_page(
    folder: Path,
    result: CompressionResult,
    summary: Sequence[Mapping[str, str]],
    metrics: Sequence[Mapping[str, str]],
    layers: Sequence[Mapping[str, str]],
    plans: Sequence[Mapping[str, str]] = (),
) -> Page:
    """The page of one compression, from its tables and the figures in `folder`."""
    name = result.container.card.provenance.get("net", "a model")
    page = Page(f"What {result.container.compression} saves and costs: {name}",
                "Weights of the network share a few values; the file stores which weight takes "
                "which value.")
    if result.synthetic:
        page.note(SYNTHETIC)
    for note in result.notes:
        page.note(note)
    page.heading("Size")
    page.table("Bytes are decimal; a ratio is compressed / original, so below 1 is better.",
               summary)
    page.figure(folder / "sizes.svg", "Size of the compressed file, by what it holds, beside the "
                "float32 parameters of the original.")
    if result.comparison is not None:
        page.heading("Diagnosis")
        page.paragraph(f"Judged on {result.judged_on}: {len(result.original.image_id)} images. "
                       f"Verdict: {result.comparison.headline()}.")
        page.figure(folder / "differences.svg", "Change of each class's primary metric. An "
                    "interval wholly right of the dashed line is non-inferior; with fewer than "
                    "50 positive or 50 negative patients no verdict is given.")
        page.table("Every metric at every stage, with 95% intervals; differences are those of the "
                   "compressed file.", metrics)
        page.code("\n".join(result.comparison.summary()))
    if result.tuned is not None:
        page.heading("Fine-tuning")
        page.figure(folder / "fine_tuning.svg", "Validation loss after each epoch; epoch 0 is the "
                    "quantised model before training, the ring marks the epoch that was kept.")
    if plans:
        page.heading("Running it without TensorFlow")
        page.table("Ways to run the file, timed on this machine in turns with the compiled Keras "
                   "call of the original, and judged on the same images; auto is the one that the "
                   "file recommends.", plans)
    page.heading("Layers")
    page.figure(folder / "layers.svg", "Above: how exactly each layer's weights are kept (higher "
                "is better). Below: how much the model's output moves when this layer alone is "
                "compressed (lower is better). Both are measured before fine-tuning.")
    page.table("Every kernel under Keras' name.", layers)
    return page


def write_report(
    folder: Path,
    result: CompressionResult,
    sizes: ContainerSizes,
    summary: Sequence[Mapping[str, str]],
    metrics: Sequence[Mapping[str, str]],
    layers: Sequence[Mapping[str, str]],
    plans: Sequence[Mapping[str, str]] = (),
) -> None:
    """Draw the figures and write `report.html` to the folder."""
    draw_figures(folder, result, sizes)
    compression_page(folder, result, summary, metrics, layers, plans).write(folder / "report.html")
