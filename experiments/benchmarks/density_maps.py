"""Density maps of a whole collection: fields a second, and memory that does not grow with them.

Data: generated fields of 1228x1228 pixels in SHIDC-B-Ki-67's layout, as many as it has (2,357). A
few are drawn and stand under many names, since drawing takes longer than what is measured; every
one is read, decoded, resized, drawn and written anew. Treatment: `preprocessing.py` to 256x256,
without and with six orientations, each in a process of its own, and on a tenth of the fields too.
Measurement: fields a second, and a second of processor time, which other programs on the machine
change less; peak memory of the process, bytes written; beside it the bytes that the same fields
and maps take as float32 arrays, which is how the original scripts hold them. Output: a table, a
CSV and a JSON file.

    python experiments/benchmarks/density_maps.py --fields 2357 --output_path results
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cxcompress.commands.command_line import parser, run
from cxcompress.data.synthetic_ki67 import annotation, generate_fields
from cxcompress.errors import InputError
from cxcompress.reporting.tables import byte_count, number, text_table
from cxcompress.runs import RunFolder

CALL = ("import sys; from cxcompress.commands.preprocessing import main; "
        "sys.exit(main(sys.argv[1:]))")
SIDE = 256
WAYS = 6


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parse = parser("density_maps.py", "Throughput and memory of preprocessing.py.",
                   "python experiments/benchmarks/density_maps.py --fields 2357")
    parse.add_argument("--fields", type=int, default=2357, help="fields (2357)")
    parse.add_argument("--distinct", type=int, default=4, help="fields that are drawn (4)")
    parse.add_argument("--size", type=int, default=1228, help="their pixels a side (1228)")
    return run(parse, lambda arguments: print(benchmark(arguments)), argv)


def benchmark(arguments: argparse.Namespace) -> str:
    """Draw, prepare and measure; returns the table."""
    if not 10 <= arguments.fields or not 1 <= arguments.distinct <= arguments.fields:
        raise InputError("--fields must be at least 10, and --distinct between 1 and it")
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    path = Path(arguments.output_path) / "density_maps"
    with (RunFolder.open(path, described, overwrite=arguments.overwrite) as folder,
          tempfile.TemporaryDirectory() as scratch):
        few, all_ = max(2, arguments.fields // 10), arguments.fields
        source = {count: Path(scratch) / f"fields{count}" for count in (few, all_)}
        _write_fields(source, arguments)
        rows = []
        for count, turned in ((few, False), (all_, False), (few, True)):
            target = Path(scratch) / f"ready{count}{turned}"
            subprocess.run([sys.executable, "-c", CALL, "-i", str(source[count]), "-o",
                            str(target), "-a", str(turned)], check=True,
                           stdout=subprocess.DEVNULL)
            facts = json.loads((target / "results.json").read_text())
            written = facts["written"]
            rows.append({
                "fields": count, "orientations": WAYS if turned else 1, "written": written,
                "seconds": facts["seconds"], "fields_per_second": facts["fields_per_second"],
                "fields_per_processor_second": count / facts["processor_seconds"],
                "peak_memory_bytes": facts["peak_memory_bytes"], "bytes_written": facts["bytes"],
                "float32_bytes_in_memory": written * SIDE * SIDE * (3 + 3) * 4})
        folder.write_csv("results_density_maps.csv", rows)
        folder.write_json("results.json", folder.record | {"state": "done", "rows": rows})
    return text_table([{
        "fields": f"{row['fields']:,}", "orientations": str(row["orientations"]),
        "fields read a second": number(row["fields_per_second"], 1),
        "a second of one core": number(row["fields_per_processor_second"], 1),
        "peak memory": byte_count(row["peak_memory_bytes"]),
        "written": byte_count(row["bytes_written"]),
        "as float32 in memory": byte_count(row["float32_bytes_in_memory"])} for row in rows],
        right=("fields", "orientations"))


def _write_fields(folders: dict[int, Path], arguments: argparse.Namespace) -> None:
    """Fields under as many names as asked for: hard links to a few files."""
    from PIL import Image

    first = next(iter(folders.values())).parent / "drawn"
    first.mkdir()
    for row, (image, cells, _) in enumerate(generate_fields(
            arguments.distinct, arguments.size, arguments.seed)):
        Image.fromarray(image).save(first / f"{row}.jpg", quality=90)
        (first / f"{row}.json").write_text(json.dumps(annotation(cells)))
    for count, folder in folders.items():
        (folder / "Train").mkdir(parents=True)
        for number_ in range(count):
            for suffix in ("jpg", "json"):
                os.link(first / f"{number_ % arguments.distinct}.{suffix}",
                        folder / "Train" / f"p{number_ // 6:04d}_{number_ % 6:02d}.{suffix}")


if __name__ == "__main__":
    sys.exit(main())
