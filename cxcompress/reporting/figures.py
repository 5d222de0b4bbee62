"""Figures of a compression: what the bytes are, what the diagnosis loses, which layers hurt.

Every function takes plain numbers, returns nothing and writes `<stem>.png` and `<stem>.svg`.
Colours are those of Okabe and Ito (2008), distinguishable without red-green vision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from cxcompress.runs import atomic_path

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7F7F7F",
)
LARGEST_LOSS = 30
"""Times the original's, up to which losses are drawn."""
STYLE = {
    "figure.dpi": 150, "savefig.bbox": "tight", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.axisbelow": True, "svg.hashsalt": "cxcompress",
    "svg.fonttype": "none",
}


def _save(figure, stem: Path) -> None:
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
        with atomic_path(stem.with_name(stem.name + suffix)) as temporary:
            figure.savefig(temporary, format=suffix[1:], metadata=metadata)
    plt.close(figure)


def sizes(stem: Path, original: int, parts: Mapping[str, int]) -> None:
    """Bytes of the original's float32 parameters beside the container's parts, in kB.

    Args:
        stem: Path without suffix.
        original: 4 × number of parameters.
        parts: Bytes of the container by part, e.g. `{"index maps": …, "codebooks": …}`.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 2.1))
        axes.barh(1, original / 1e3, color=GREY)
        left = 0.0
        colours = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
        for colour, (name, count) in zip(colours, _large_parts(parts).items(), strict=False):
            axes.barh(0, count / 1e3, left=left, color=colour, label=f"{name}: {count:,} bytes")
            left += count / 1e3
        total = sum(parts.values())
        axes.text(original / 1e3, 1, f" {original / 1e3:,.0f} kB", va="center")
        axes.text(left, 0, f" {total / 1e3:,.0f} kB = {total / original:.3f} of it", va="center")
        axes.set_yticks([0, 1], ["compressed file", "float32 parameters"])
        axes.set_xlim(0, 1.18 * max(original, total) / 1e3)
        axes.set_xlabel("size [kB, 1 kB = 1,000 bytes]")
        axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.45, -0.3), frameon=False,
                    fontsize=8)
        _save(figure, stem)


def _large_parts(parts: Mapping[str, int]) -> dict[str, int]:
    """Parts of at least 2% of the whole, then all smaller ones together."""
    limit = 0.02 * sum(parts.values())
    large = {name: count for name, count in parts.items() if count >= limit}
    small = {name: count for name, count in parts.items() if 0 < count < limit}
    return large | ({"everything else": sum(small.values())} if small else {})


def fine_tuning(stem: Path, history: Mapping[str, Sequence[float]], best_epoch: int) -> None:
    """Loss by epoch on training and validation images, and the epoch that was kept.

    Args:
        stem: Path without suffix.
        history: `"loss"` and `"val_loss"`, one number an epoch, the first before training (its
            training loss is NaN).
        best_epoch: Position in the history.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.2, 2.8))
        epochs = np.arange(len(history["val_loss"]))
        axes.plot(epochs, history["val_loss"], "o-", color=BLUE, markersize=4, label="validation")
        if len(epochs) > 1:
            axes.plot(epochs[1:], history["loss"][1:], "s--", color=ORANGE, markersize=3,
                      label="training (soft targets included)")
        axes.plot(best_epoch, history["val_loss"][best_epoch], "o", markersize=11,
                  markerfacecolor="none", markeredgecolor=VERMILION, label="kept")
        axes.axhline(history["val_loss"][0], color=GREY, linewidth=0.8, linestyle=":")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch (0 = quantised, before fine-tuning)")
        axes.set_ylabel("loss [nats; of maps: squared error]")
        axes.legend(frameon=False, fontsize=8)
        _save(figure, stem)


def fine_tuning_study(
    stem: Path, rows: Sequence[Mapping], original: Mapping, metrics: Sequence[str]
) -> None:
    """Metrics against the number of shared values: a column a quantiser, a line a treatment.

    Losses of more than `LARGEST_LOSS` times the original's lie above the axis, so that networks
    that have lost everything do not hide the others.

    Args:
        stem: Path without suffix.
        rows: Means over seeds: mappings with `compression`, `k`, `treatment`, and for each metric
            `<metric>`, `<metric>_low` and `<metric>_high` (95% interval); no interval is drawn for
            a metric without.
        original: The uncompressed network's numbers under the same names.
        metrics: Which to draw, a row each, e.g. `("auroc_macro", "cross_entropy")`.
    """
    labels = {"auroc_macro": "AUROC, macro", "f1_macro": "F1, mean of cell classes",
              "cross_entropy": "cross-entropy [nats]", "val_loss": "squared error of the maps\n"
              "on validation"}
    forms = {"none": (GREY, "o", "quantised only"),
             "statistics": (GREEN, "D", "BatchNormalization re-estimated"),
             "fixed": (ORANGE, "s", "indices fixed"),
             "learned": (BLUE, "^", "indices learned"),
             "gradual": (PURPLE, "v", "indices learned, gradually")}
    names = list(dict.fromkeys(row["compression"] for row in rows))
    levels = sorted({row["k"] for row in rows}, reverse=True)
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            len(metrics), len(names), figsize=(1.5 + 2.2 * len(names), 0.6 + 2.3 * len(metrics)),
            sharex=True, sharey="row", squeeze=False)
        for axes_row, metric in zip(grid, metrics, strict=True):
            axes_row[0].set_ylabel(labels.get(metric, metric))
            for axes, name in zip(axes_row, names, strict=True):
                if f"{metric}_low" in original:
                    axes.axhspan(original[f"{metric}_low"], original[f"{metric}_high"],
                                 color="black", alpha=0.07, lw=0)
                axes.axhline(original[metric], color="black", lw=0.8, ls=":")
                for shift, (treatment, (colour, marker, label)) in enumerate(forms.items()):
                    chosen = {row["k"]: row for row in rows if row["compression"] == name
                              and row["treatment"] == treatment}
                    if not chosen:
                        continue
                    # Beside each other, so that intervals of equal values can be told apart.
                    places = [levels.index(k) + 0.14 * (shift - 1) for k in chosen]
                    if f"{metric}_low" in original:
                        axes.vlines(places, *([row[metric + end] for row in chosen.values()]
                                              for end in ("_low", "_high")), color=colour, lw=1)
                    axes.plot(places, [row[metric] for row in chosen.values()], marker=marker,
                              color=colour, ms=4, lw=1.2, label=label)
                if metric in ("cross_entropy", "val_loss"):
                    axes.set_yscale("log")
                    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                    axes.yaxis.set_major_formatter("{x:g}")
                    axes.yaxis.set_minor_formatter(NullFormatter())
            if metric in ("cross_entropy", "val_loss"):
                drawn = [original[metric], *(row[metric] for row in rows)]
                highest = LARGEST_LOSS * original[metric]
                if max(drawn) > highest > 0:
                    axes_row[0].set_ylim(0.8 * min(drawn), highest)
        for axes, name in zip(grid[0], names, strict=True):
            axes.set_title(name, fontsize=9)
        for axes in grid[-1]:
            axes.set_xticks(range(len(levels)), levels)
            axes.set_xlabel("shared values k")
        handles, captions = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, captions, ncols=2 if len(names) < 2 else 4, loc="lower center",
                      frameon=False, bbox_to_anchor=(0.5, 0.93))
        _save(figure, stem)


def differences(
    stem: Path, rows: Sequence[Mapping], margin: float, metric: str = "AUROC"
) -> None:
    """Compressed − original per class with 95% intervals, and the margin, as a forest plot.

    Args:
        stem: Path without suffix.
        rows: Mappings with `name`, `difference`, `low`, `high`, `verdict` and `positives`.
        margin: Non-inferiority margin, drawn as the shaded region.
        metric: Name for the axis.
    """
    colours = {"non-inferior": GREEN, "inferior": VERMILION, "undecided": GREY}
    markers = {"non-inferior": "o", "inferior": "X", "undecided": "s"}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 1.1 + 0.27 * len(rows)))
        finite = [abs(row[key]) for row in rows for key in ("low", "high", "difference")
                  if np.isfinite(row[key])]
        reach = 1.15 * max([2 * margin, *finite])
        axes.axvspan(-reach, -margin, color=VERMILION, alpha=0.12, lw=0)
        axes.axvline(0, color="black", lw=0.8)
        axes.axvline(-margin, color=VERMILION, lw=0.8, ls="--")
        for place, row in enumerate(rows):
            if not np.isfinite(row["difference"]):
                axes.text(0, place, " undefined", va="center", fontsize=7, color=GREY)
                continue
            colour = colours[row["verdict"]]
            axes.plot([row["low"], row["high"]], [place, place], color=colour, lw=1.6)
            axes.plot(row["difference"], place, marker=markers[row["verdict"]], color=colour, ms=5)
        axes.set_yticks(range(len(rows)),
                        [f"{row['name']} (n+ = {row['positives']})" for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(-reach, reach)
        axes.set_xlabel(f"{metric}: compressed − original, 95% interval "
                        f"(shaded: worse by more than {margin:g})")
        for verdict in dict.fromkeys(row["verdict"] for row in rows):
            axes.plot([], [], marker=markers[verdict], ls="", color=colours[verdict],
                      label=verdict)
        axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
        _save(figure, stem)


def layer_sensitivity(stem: Path, rows: Sequence[Mapping]) -> None:
    """Per layer, in network order: signal-to-noise of its weights and change of the output.

    The second is left out where it was not measured.

    Args:
        stem: Path without suffix.
        rows: Mappings with `kernel`, `sqnr_db`, `output_change`.
    """
    changes = [100 * row["output_change"] for row in rows]
    measured = bool(np.isfinite(changes).any())
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1 + measured, 1, figsize=(6.4, 4.0 if measured else 2.6),
                                      sharex=True, squeeze=False)
        upper, lower = panels[0, 0], panels[-1, 0]
        places = np.arange(len(rows))
        finite = [row["sqnr_db"] if np.isfinite(row["sqnr_db"]) else 0 for row in rows]
        upper.bar(places, finite, color=SKY)
        upper.set_ylabel("weight SQNR [dB]")
        if measured:
            lower.bar(places, changes, color=ORANGE)
            lower.set_ylabel("output change\nfrom this layer alone\n[% of output's sd]")
        lower.set_xlabel("layer, in network order")
        if len(rows) <= 30:
            names = [row["kernel"].removesuffix("/kernel") for row in rows]
            lower.set_xticks(places, names, rotation=60, ha="right", fontsize=7)
        _save(figure, stem)


def latencies(stem: Path, seconds: Mapping[str, NDArray]) -> None:
    """Every timed call of every variant, with its median.

    Args:
        stem: Path without suffix.
        seconds: Seconds of each call by variant.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 0.9 + 0.42 * len(seconds)))
        for place, (_name, values) in enumerate(seconds.items()):
            milliseconds = 1e3 * np.asarray(values)
            axes.plot(milliseconds, np.full(milliseconds.size, place), "|", color=GREY, ms=10)
            median = np.median(milliseconds)
            axes.plot(median, place, "o", color=BLUE)
            axes.annotate(f"{median:.3g} ms", (median, place), xytext=(0, 7), fontsize=8,
                          textcoords="offset points", ha="center", color=BLUE)
        axes.set_yticks(range(len(seconds)), list(seconds))
        axes.set_ylim(len(seconds) - 0.5, -0.7)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("time of one call [ms, log scale]; dot: median; ticks: single calls")
        _save(figure, stem)


def size_and_accuracy(stem: Path, rows: Sequence[Mapping]) -> None:
    """The primary metric against the size of the file, and the front that nothing beats.

    Args:
        stem: Path without suffix.
        rows: Mappings with `compression`, `epochs`, `sensitivity`, `bytes`, `on_front`, `primary`,
            `primary_{value,low,high}` and `<primary>_original_value`.
    """
    colours = {"UQ": ORANGE, "CWS": BLUE, "PWS": GREY, "ECSQ": GREEN, "TCQ": PURPLE}
    primary = rows[0]["primary"]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 4.2))
        axes.axhline(rows[0][f"{primary}_original_value"], color="black", lw=0.8, ls=":")
        for row in rows:
            name = next(name for name in colours if row["compression"].endswith(name))
            tuned = row["epochs"] > 0
            axes.vlines(row["bytes"] / 1e3, row["primary_low"], row["primary_high"],
                        color=colours[name], lw=0.6, alpha=0.5 if row["on_front"] else 0.15)
            axes.plot(row["bytes"] / 1e3, row["primary_value"], color=colours[name], ms=5,
                      marker="s" if row["sensitivity"] != "none" else "o", ls="",
                      fillstyle="full" if tuned else "none")
        front = sorted((row["bytes"] / 1e3, row["primary_value"]) for row in rows
                       if row["on_front"])
        axes.step(*zip(*front, strict=True), where="post", color="black", lw=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("compressed file, without plans [kB]")
        axes.set_ylabel({"auroc_macro": "AUROC, macro", "f1_macro":
                         "F1, mean of cell classes"}.get(primary, primary))
        used = [name for name in colours
                if any(row["compression"].endswith(name) for row in rows)]
        handles = [plt.Line2D([], [], color=colours[name], marker="o", ls="", label=name)
                   for name in used]
        marks = (("o", "none", "quantised only"), ("o", "full", "fine-tuned"),
                 ("s", "none", "bits by sensitivity"))
        handles += [plt.Line2D([], [], color="black", marker=marker, ls="", fillstyle=fill,
                               label=label) for marker, fill, label in marks]
        handles += [plt.Line2D([], [], color="black", lw=1, label="front: nothing beats it"),
                    plt.Line2D([], [], color="black", lw=0.8, ls=":", label="original")]
        figure.legend(handles=handles, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 0.98),
                      frameon=False, fontsize=8)
        figure.tight_layout()
        _save(figure, stem)


def quantizer_sweep(stem: Path, rows: Sequence[Mapping]) -> None:
    """Cross-entropy and AUROC against the size of the file: a column a quantiser, a line a scope.

    Args:
        stem: Path without suffix.
        rows: Mappings with `compression`, `k`, `bytes` and, for `cross_entropy` and
            `auroc_macro`, `<metric>_original_value` and `<metric>_compressed_{value,low,high}`.
    """
    forms = {"u": (BLUE, "o", "one codebook (u)"), "": (ORANGE, "s", "one codebook a layer"),
             "pru": (GREEN, "^", "pruned, one codebook (pru)"),
             "pr": (PURPLE, "v", "pruned, one codebook a layer (pr)")}
    names = [name for name in ("UQ", "CWS", "PWS", "ECSQ")
             if any(row["compression"].endswith(name) for row in rows)]
    metrics = (("cross_entropy", "cross-entropy [nats]"), ("auroc_macro", "AUROC, macro"))
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, len(names), figsize=(1.5 + 2.2 * len(names), 5.0),
                                    sharex=True, sharey="row", squeeze=False)
        for axes_row, (metric, label) in zip(grid, metrics, strict=True):
            axes_row[0].set_ylabel(label)
            for axes, name in zip(axes_row, names, strict=True):
                axes.axhline(rows[0][f"{metric}_original_value"], color="black", lw=0.8, ls=":")
                for form, (colour, marker, _label) in forms.items():
                    chosen = sorted((row for row in rows if row["compression"] == form + name),
                                    key=lambda row: row["bytes"])
                    size = [row["bytes"] / 1e3 for row in chosen]
                    value, low, high = (
                        np.array([row[f"{metric}_compressed_{part}"] for row in chosen], float)
                        for part in ("value", "low", "high"))
                    axes.fill_between(size, low, high, color=colour, alpha=0.15, lw=0)
                    axes.plot(size, value, color=colour, marker=marker, ms=4, lw=1)
        for axes, name in zip(grid[0], names, strict=True):
            axes.set_title(name, fontsize=10)
        for axes in grid[1]:
            axes.set_xlabel("compressed file [kB]")
            axes.set_xlim(left=0)
        grid[0, 0].set_yscale("log")
        shown = [form for form in forms if any(row["compression"] in (form + n for n in names)
                                               for row in rows)]
        handles = [plt.Line2D([], [], color=forms[form][0], marker=forms[form][1], ms=4, lw=1,
                              label=forms[form][2]) for form in shown]
        handles.append(plt.Line2D([], [], color="black", lw=0.8, ls=":", label="original"))
        figure.legend(handles=handles, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0),
                      frameon=False, fontsize=8)
        figure.tight_layout()
        _save(figure, stem)
