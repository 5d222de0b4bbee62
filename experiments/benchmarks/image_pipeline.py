"""How many radiographs a second reach the network, beside reading their files alone.

Data. `--count` generated radiographs (`synthetic:cxr`) of `--side` pixels, written as PNG, JPEG and
16-bit PNG. Treatment. The training pipeline (`training.ImagePipeline`: decode, resize to `--size`,
scale, augment, batch), with 1, 2 and 4 batches at once; the same from its cache in memory and in a
file; Keras' `PyDataset` one after another, as before; and, as bounds, reading the files' bytes
alone and decoding alone on one and on two threads. Measurement. Medians of `--repeats` passes, all
treatments in turn, on files that the operating system has in memory: images a second; `cores`,
processor time over wall time; and processor milliseconds an image. Other load on the machine lowers
the first two, hardly the third, which says what the pipeline adds to decoding.

    python experiments/benchmarks/image_pipeline.py --count 256 --side 512 --size 224
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from cxcompress.commands.command_line import start_tensorflow
from cxcompress.data.augmentation import Augmentation
from cxcompress.data.collection import Part
from cxcompress.data.image_folder import ImageFiles
from cxcompress.data.synthetic_cxr import radiographs
from cxcompress.images import Preprocessing, read_image
from cxcompress.reporting.tables import text_table
from cxcompress.runs import RunFolder

KINDS = ("png", "jpeg", "png16")


def write_files(folder: Path, kind: str, images: list[np.ndarray]) -> list[Path]:
    """The radiographs as files of a kind."""
    paths = []
    for number, image in enumerate(images):
        path = folder / f"{number:04d}.{'jpg' if kind == 'jpeg' else 'png'}"
        if kind == "png16":
            image = image.astype(np.uint16) * 257
        Image.fromarray(image).save(path, **({"quality": 90} if kind == "jpeg" else {}))
        paths.append(path)
    return paths


def treatments(paths: list[Path], size: int, batch: int, folder: Path) -> dict[str, Callable]:
    """One pass over all files, by treatment."""
    from cxcompress.training import ImagePipeline, PartBatches

    ids = np.array([path.name for path in paths])
    part = Part(ImageFiles(paths), np.zeros((len(paths), 14), np.float32), ids, ids)
    preprocessing = Preprocessing.preset("0-1", size, 1)
    turn = Augmentation.turned(15)

    def pipeline(augmentation=None, **more) -> Callable:
        made = ImagePipeline(part, preprocessing, batch, seed=0, augmentation=augmentation, **more)

        def one_pass():
            made.epoch += 1
            for _ in made.dataset:
                pass
        return one_pass

    def batches():
        made = PartBatches(part, preprocessing, batch, 0)
        for position in range(len(made)):
            made[position]

    def decoded(threads: int) -> Callable:
        def one_pass():
            with ThreadPoolExecutor(threads) as pool:
                for _ in pool.map(read_image, paths):
                    pass
        return one_pass

    return {
        "read bytes alone": lambda: [path.read_bytes() for path in paths],
        "decode alone, 1 thread": decoded(1), "decode alone, 2 threads": decoded(2),
        "PyDataset (one after another)": batches,
        "pipeline, 1 batch at once": pipeline(at_once=1),
        "pipeline, 2 batches at once": pipeline(at_once=2),
        "pipeline, 4 batches at once": pipeline(at_once=4),
        "pipeline, 4 at once, turned": pipeline(turn),
        "pipeline, cache in memory": pipeline(cache="memory"),
        "pipeline, cache in a file": pipeline(cache=folder / "cache"),
    }


def measured(passes: dict[str, Callable], count: int, repeats: int) -> list[dict]:
    """Images a second and cores of each treatment, in turns after one pass to warm up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in passes}
    for one_pass in passes.values():
        one_pass()
    for _ in range(repeats):
        for name, one_pass in passes.items():
            wall, processor = time.perf_counter(), time.process_time()
            one_pass()
            times[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return [{"treatment": name,
             "images_per_second": count / statistics.median(wall for wall, _ in found),
             "cores": statistics.median(processor / wall for wall, processor in found),
             "processor_ms_per_image": 1e3 * statistics.median(
                 processor for _, processor in found) / count}
            for name, found in times.items()]


def main() -> int:
    """Measure and print."""
    parse = argparse.ArgumentParser(description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--count", type=int, default=256)
    parse.add_argument("--side", type=int, default=512)
    parse.add_argument("--size", type=int, default=224)
    parse.add_argument("--batch_size", type=int, default=16)
    parse.add_argument("--repeats", type=int, default=3)
    parse.add_argument("--output_path", default="results/image_pipeline")
    parse.add_argument("--overwrite", action="store_true")
    arguments = parse.parse_args()
    start_tensorflow()
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    images = [radiograph.draw(arguments.side)
              for _, radiograph in zip(range(arguments.count), radiographs(0), strict=False)]
    rows = []
    with RunFolder.open(arguments.output_path, described, overwrite=arguments.overwrite) as folder:
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as place:
                paths = write_files(Path(place), kind, images)
                passes = treatments(paths, arguments.size, arguments.batch_size, Path(place))
                for row in measured(passes, arguments.count, arguments.repeats):
                    rows.append({"files": kind, "side": arguments.side, "size": arguments.size,
                                 "count": arguments.count} | row)
        folder.write_csv("image_pipeline.csv", rows)
    print(text_table([{key: f"{value:.2f}" if key in (
                           "cores", "processor_ms_per_image") else f"{value:.0f}"
                       if isinstance(value, float) else str(value) for key, value in row.items()}
                      for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
