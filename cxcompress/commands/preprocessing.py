"""`preprocessing.py`: fields at the network's size, with cells and density maps, to a folder."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from cxcompress.commands.command_line import OneLineParser, boolean, run
from cxcompress.errors import InputError
from cxcompress.reporting.tables import byte_count, number, text_table
from cxcompress.runs import RunFolder, progress, to_csv, write_atomic

EXAMPLE = "python experiments/preprocessing.py -i split -o ready -s 256,256,3 -a True"


def build_parser() -> OneLineParser:
    """The flags of `preprocessing.py`; the prior work's keep their names."""
    parse = OneLineParser(
        prog="preprocessing.py", description="Write annotated fields at the network's size, with "
        "their cells and density maps, in the same layout; one field in memory at a time. "
        "Training does the same on the fly: this is for other programs, and for slow disks.",
        epilog=f"example:\n  {EXAMPLE}", formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False)
    add = parse.add_argument
    add("-i", "--inputPath", required=True, help="folder of fields, as for split_train_val.py")
    add("-o", "--outputPath", required=True, help="folder to create")
    add("-s", "--shape", default="256,256,3", metavar="H,W,C",
        help="height, width and channels (256,256,3)")
    add("-a", "--augmentation", type=boolean, default=False, metavar="True|False",
        help="write training fields in PathoNet's six orientations (False)")
    add("-g", "--kernel", type=int, default=9, help="pixels a side of a cell's peak (9)")
    add("--maps", choices=("npz", "npy", "none"), default="npz",
        help="density maps: deflated, plain, or none (npz)")
    add("--overwrite", action="store_true", help="replace a folder that this command made")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(preprocess(arguments)), argv)


def parsed_shape(text: str, augmentation: bool) -> tuple[int, int, int]:
    """`256,256,3` as numbers.

    Raises:
        InputError: If these are not three positive numbers, or fields are to be turned that are
            not square.
    """
    try:
        height, width, channels = (int(side) for side in text.split(","))
    except ValueError as error:
        raise InputError(f"--shape {text}: not of the form 256,256,3") from error
    if not (1 <= height <= 8192 and 1 <= width <= 8192 and channels in (1, 3)):
        raise InputError(f"--shape {text}: height and width are 1 to 8192, channels 1 or 3")
    if augmentation and height != width:
        raise InputError(f"--shape {text}: fields that are turned must be square")
    return height, width, channels


def preprocess(arguments: argparse.Namespace) -> str:
    """Write the folder, and return what to print.

    Raises:
        InputError: If a flag or a folder cannot be used.
    """
    from cxcompress.data.field_folders import field_parts, prepare_fields
    from cxcompress.data.shidc import MARKER

    shape = parsed_shape(arguments.shape, arguments.augmentation)
    if not 1 <= arguments.kernel <= min(shape[:2]):
        raise InputError(f"--kernel {arguments.kernel}: must lie between 1 and the field's side, "
                         f"{min(shape[:2])}")
    source, target = Path(arguments.inputPath), Path(arguments.outputPath)
    if source.resolve() in (target.resolve(), *target.resolve().parents):
        raise InputError(f"--outputPath {target}: lies in --inputPath; give another folder")
    parts = field_parts(source)
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("outputPath", "overwrite")}
    started, computed = time.perf_counter(), time.process_time()
    with RunFolder.open(target, described, overwrite=arguments.overwrite) as folder:
        if (source / MARKER).is_file():
            shutil.copyfile(source / MARKER, target / MARKER)
            _rescale_marker(target / MARKER, parts, shape)
        rows = list(progress(
            prepare_fields(parts, target, shape, kernel=arguments.kernel,
                           augment=("train",) if arguments.augmentation else (),
                           maps=arguments.maps),
            "Fields", total=sum(map(len, parts.values()))))
        seconds = time.perf_counter() - started
        computed = time.process_time() - computed
        write_atomic(target / "fields.csv", to_csv(rows))
        fields = sum(map(len, parts.values()))
        size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
        facts = {"fields": fields, "written": len(rows), "seconds": seconds,
                 "fields_per_second": fields / seconds, "processor_seconds": computed,
                 "bytes": size, "peak_memory_bytes": peak_memory()}
        folder.write_json("results.json", folder.record | {"state": "done"} | facts)
    table = [{"quantity": "fields read", "value": f"{fields:,}"},
             {"quantity": "fields written", "value": f"{len(rows):,}"},
             {"quantity": "fields a second", "value": number(facts["fields_per_second"], 1)},
             {"quantity": "on disk", "value": byte_count(size)},
             {"quantity": "peak memory of the process",
              "value": byte_count(facts["peak_memory_bytes"])}]
    return "\n".join([text_table(table, right=("value",)), "", f"folder  {target}"])


def peak_memory() -> int:
    """Bytes of the most memory that this process has held; 0 where the system does not say.

    Linux counts them from the start of the program; `getrusage` would count its parent's too.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def _rescale_marker(path: Path, parts: dict, shape: tuple[int, int, int]) -> None:
    """The scale of generated fields at their new size."""
    from cxcompress.images.reading import image_shape

    about = json.loads(path.read_text("utf-8"))
    if isinstance(about, dict) and isinstance(about.get("microns_per_pixel"), int | float):
        stored = image_shape(next(iter(parts.values()))[0])[1]
        about["microns_per_pixel"] *= stored / shape[1]
        write_atomic(path, json.dumps(about, indent=1) + "\n")
