"""`similarity.py`: CKA maps between networks' layers, and pictures of filters and feature maps."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.compress import class_names
from cxcompress.commands.data_flags import PREPROCESSINGS
from cxcompress.errors import InputError
from cxcompress.reporting.tables import number, text_table
from cxcompress.runs import RunFolder

EXAMPLE = ("python experiments/similarity.py --net dense.h5 pruned.h5 quantised.h5 "
           "--data_path chest_xray --images 2000")


def build_parser() -> argparse.ArgumentParser:
    """The flags of `similarity.py`."""
    parse = parser("similarity.py", "Centred kernel alignment (CKA) of every layer with every "
                   "layer: each network with itself, and each pair of networks; pruned against "
                   "dense, quantised against float, student against teacher.", EXAMPLE)
    add = parse.add_argument
    add("--net", required=True, nargs="+", metavar="FILE",
        help="models of the same input: .keras, .h5, .hdf5, or compressed files of cxcompress")
    add("--names", nargs="+", help="what to call them (their files' names)")
    add("--data_path", required=True, help="images, as for compress.py; labels do not matter")
    add("--count", type=int, help="images to generate, where --data_path is synthetic:…")
    add("--part", default="test", choices=("train", "val", "test"),
        help="images to look at; where there is no such part, what there is (test)")
    add("--images", type=int, default=2000, help="at most so many, evenly spaced (2000)")
    add("--batch_size", type=int, default=64, help="images a batch, 4 or more (64)")
    add("--layers", nargs="+", metavar="LAYER", help="layers to compare, by name (all but "
        "dropout and reshaping)")
    add("--features", nargs="+", default=[], metavar="LAYER",
        help="convolutions to draw: filters, and feature maps of one image, of every network")
    add("--preprocessing", default="auto", choices=PREPROCESSINGS,
        help="as for compress.py, found on the first network (auto)")
    add("--classes", help="class names in the order of the model's outputs, comma-separated")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(similarity(arguments)), argv)


def similarity(arguments: argparse.Namespace) -> str:
    """Compare, draw, write the run folder and return the table.

    Raises:
        InputError: If a flag, a model or the data cannot be used.
    """
    names = named_nets(arguments.net, arguments.names)
    if arguments.batch_size < 4:
        raise InputError(f"--batch_size {arguments.batch_size}: unbiased CKA needs at least 4 "
                         "images a batch")
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    start_tensorflow()
    from cxcompress.inspection import cka
    from cxcompress.pipeline import inputs
    from cxcompress.reporting import similarity_figures as figures

    notes: list[str] = []
    path = Path(arguments.output_path) / "similarity" / names[0]
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        opened = {name: inputs.open_model(net) for name, net
                  in zip(names, arguments.net, strict=True)}
        models = {name: model for name, (model, _, _) in opened.items()}
        first, card, _ = opened[names[0]]
        study = inputs.open_study(first, card, arguments.data_path, class_names(arguments.classes),
                                  arguments.preprocessing, arguments.seed, notes, arguments.count)
        part = getattr(study.collection, arguments.part) or study.judged_part("test", notes)[0]
        some = inputs.evenly(part, arguments.images)
        prepared = study.preprocessing.batch(some.images)
        batches = [prepared[start:start + arguments.batch_size]
                   for start in range(0, len(prepared), arguments.batch_size)]
        rows: list[dict[str, Any]] = []
        pairs = [(name, name) for name in names] + list(itertools.combinations(names, 2))
        for one, other in pairs:
            start = time.perf_counter()
            found = cka.similarity(models[one], None if one == other else models[other], batches,
                                   arguments.layers)
            stem = f"cka_{one}" if one == other else f"cka_{one}_{other}"
            folder.write_csv(f"{stem}.csv", [
                {f"{one} \\ {other}": layer} | dict(zip(found.layers[1], map(float, line),
                                                        strict=True))
                for layer, line in zip(found.layers[0], found.values, strict=True)])
            figures.similarity_map(path / stem, found.values, found.layers, (one, other),
                                   found.images)
            rows.append({"first": one, "second": other, "layers": len(found.layers[0]),
                         "other_layers": len(found.layers[1]), "images": found.images,
                         "seconds": time.perf_counter() - start} | _summary(found))
        for name, layer in itertools.product(names, arguments.features):
            _draw(path, name, models[name], layer, prepared[0], str(some.image_id[0]))
        folder.write_csv("results_similarity.csv", rows)
        folder.write_json("results.json", folder.record | {"state": "done", "rows": rows,
                                                           "notes": notes})
    table = [{"first": row["first"], "second": row["second"],
              "layers": f"{row['layers']} × {row['other_layers']}",
              "mean CKA": number(row["mean"]), "same layers, mean": number(row["same"]),
              "least alike": (f"{row['least_layer']} {number(row['least'])}"
                              if row["least_layer"] else ""),
              "seconds": number(row["seconds"], 1)} for row in rows]
    return "\n".join([*(f"note: {note}" for note in notes), "", text_table(table), "",
                      f"{len(some)} images; maps and tables  {path}"])


def named_nets(nets: Sequence[str], names: Sequence[str] | None) -> list[str]:
    """What to call each `--net`: the names given, else those of the files.

    Raises:
        InputError: If a file is not there, or the names are not one a file and all different.
    """
    names = list(names or _short_names(nets))
    if len(names) != len(nets) or len(set(names)) < len(names):
        raise InputError(f"--names {' '.join(names)}: give one name a --net, all different")
    for net in nets:
        if not Path(net).is_file():
            raise InputError(f"--net {net}: no such file")
    return names


def _short_names(nets: Sequence[str]) -> list[str]:
    """The files' stems, with their folders where stems repeat."""
    stems = [Path(net).stem for net in nets]
    if len(set(stems)) == len(stems):
        return stems
    return ["-".join(Path(net).resolve().with_suffix("").parts[-2:]) for net in nets]


def _summary(found) -> dict[str, Any]:
    """The mean over all pairs, and over layers of the same name, and the least of the latter."""
    rows, columns = found.layers
    same = {name: float(found.values[number, columns.index(name)])
            for number, name in enumerate(rows) if name in columns}
    least = min(same, key=same.get) if same else ""
    return {"mean": float(found.values.mean()),
            "same": float(np.mean(list(same.values()))) if same else float("nan"),
            "least": same.get(least, float("nan")), "least_layer": least}


def _draw(path: Path, name: str, model, layer: str, image, image_id: str) -> None:
    from cxcompress.inspection import features
    from cxcompress.reporting import similarity_figures as figures

    stem = f"{name}_{layer.replace('/', '-')}"
    figures.pictures(path / f"filters_{stem}", features.filters_of(model, layer),
                     f"{name}, {layer}: filters, mean over input channels", signed=True)
    figures.pictures(path / f"maps_{stem}", features.feature_maps(model, layer, image),
                     f"{name}, {layer}: feature maps of {image_id}", signed=False)
