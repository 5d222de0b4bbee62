"""Hostile pictures, DICOM files, arrays and label tables against their readers.

    python tests/fuzzing/fuzz_files.py --cases 100000 --seed 1 --state files.json
    python tests/fuzzing/fuzz_files.py --only dicom tables

Files of every kind that is read, with bits, bytes, fields and cells changed. The laws are those of
`fuzz_containers.py`: one clean line, or what the file may hold; no crash, no other exception, at
most 5 seconds, and at most 3 × the memory that the file declares, plus 32 MB.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shutil
import struct
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

from batches import FINDING, case_random, print_counts, run_cases  # noqa: E402
from fuzz_containers import ALLOWED_BYTES, _clean, _peak  # noqa: E402
from mutations import _bytes  # noqa: E402

from cxcompress.data import open_collection  # noqa: E402
from cxcompress.images import read_image  # noqa: E402
from cxcompress.images.reading import MAX_PIXELS  # noqa: E402

KINDS = ("images", "dicom", "arrays", "tables")
CELLS = ("", "0", "1", "-1", "1.0", "nan", "inf", "1e999", "2", "Cardiomegaly", "No Finding", "|",
         "Hernia|Hernia", "../../etc/passwd", "/etc/passwd", "\0", "\N{DROMEDARY CAMEL}",
         "x" * 5000, "058Y", "-5", "['normal'", "0" * 400, "Path", '"', "a\nb", "\ud800")
TAGS = {"NumberOfFrames": ("0", "1", "2", "999999999", "-1"), "Rows": (0, 1, 3, 60_000, 65_535),
        "Columns": (0, 1, 7, 60_000, 65_535), "BitsAllocated": (0, 1, 8, 12, 16, 32, 64),
        "BitsStored": (0, 1, 12, 16, 17), "HighBit": (0, 7, 40), "PixelRepresentation": (0, 1, 9),
        "SamplesPerPixel": (0, 1, 2, 3, 4), "PlanarConfiguration": (0, 1, 5),
        "PhotometricInterpretation": ("MONOCHROME1", "RGB", "YBR_FULL", "PALETTE COLOR", "", "X"),
        "RescaleSlope": ("0", "1e308", "-1", "nan", "x"),
        "RescaleIntercept": ("-1024", "1e308", "inf", ""),
        "WindowCenter": ("40", ["40", "50"], "nan", "1e308", ""),
        "WindowWidth": ("400", "0", "-5", "1", ["400", "1"], "inf"),
        "TransferSyntaxUID": ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5",
                              "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.1.99", "1.2.3", "")}


class Examiner:
    """Reads case after case in this process.

    Args:
        kinds: Of `KINDS`.
    """

    def __init__(self, kinds):
        self.kinds = kinds
        self.pictures = list(_pictures())
        self.dicoms = list(_dicoms()) if "dicom" in kinds else []
        self.npz = _arrays()
        self.file = None
        self.folder = Path(tempfile.mkdtemp(prefix="cxcompress-fuzz-"))
        self.layouts = _layouts(self.folder) if "tables" in kinds else []

    def close(self) -> None:
        """Remove the folder of tables."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __call__(self, rng: random.Random) -> str:
        if self.file is None:
            self.file = os.memfd_create("case")
            self.path = f"/proc/self/fd/{self.file}"
            self.peak = _peak()
            warnings.simplefilter("ignore")
        kind = rng.choice(self.kinds)
        return f"{kind}: {getattr(self, kind)(rng)}"

    def put(self, content: bytes) -> None:
        """Make the content a file in memory."""
        os.ftruncate(self.file, len(content))
        os.pwrite(self.file, content, 0)

    def check_memory(self, declared: int) -> None:
        """Raises AssertionError where this process grew by more than the file declares."""
        peak = _peak()
        grown, self.peak = peak - self.peak, max(peak, self.peak)
        assert grown <= 3 * declared + ALLOWED_BYTES, (
            f"memory: {grown >> 20} MiB, {declared >> 20} MiB declared")

    def images(self, rng: random.Random) -> str:
        content = bytearray(rng.choice(self.pictures))
        for _ in range(rng.choice((1, 1, 2, 5))):
            _bytes(rng, content, min(rng.choice((0, 8, 16)), len(content) - 1))
        if content.startswith(b"\x89PNG") and rng.random() < 0.7:
            _png_checksums(content)
        elif content.startswith((b"II", b"MM")) and rng.random() < 0.5:
            _bytes(rng, content, len(content) // 2)
        self.put(bytes(content))
        found = _clean(read_image, self.path)
        self.check_memory(_declared_pixels(content))
        if isinstance(found, str):
            return "refused"
        _check_picture(found)
        return "read"

    def dicom(self, rng: random.Random) -> str:
        from cxcompress.images.dicom import read_dicom

        content = bytearray(rng.choice(self.dicoms))
        if rng.random() < 0.6:
            content = bytearray(_other_tags(rng, bytes(content)))
        if rng.random() < 0.6:
            for _ in range(rng.choice((1, 1, 2))):
                _bytes(rng, content, rng.choice((0, 128, 132)))
        self.put(bytes(content))
        found = _clean(read_dicom, self.path)
        # A file says rows × columns; values are worked with as float64.
        self.check_memory(64 * len(content))
        if isinstance(found, str):
            return "refused"
        _check_picture(found)
        return "read"

    def arrays(self, rng: random.Random) -> str:
        content = bytearray(_npz(rng, self.npz))
        if rng.random() < 0.5:
            _bytes(rng, content, 0)
        path = self.folder / f"{os.getpid()}.npz"
        path.write_bytes(content)
        said = _collection(path)
        self.check_memory(_declared_arrays(bytes(content)))
        return said

    def tables(self, rng: random.Random) -> str:
        folder, table, content = rng.choice(self.layouts)
        own = self.folder / str(os.getpid()) / folder.name
        if not own.exists():
            shutil.copytree(folder, own)
        target = own / table
        target.write_bytes(_other_cells(rng, content))
        try:
            said = _collection(own)
        finally:
            target.write_bytes(content)
        self.check_memory(1 << 20)
        return said


def _collection(path: Path) -> str:
    found = _clean(open_collection, path)
    if isinstance(found, str):
        return "refused"
    for part in (found.train, found.val, found.test):
        if part is not None:
            assert len(part.images) == len(part.labels) == len(part.patient_id)
            labels = np.asarray(part.labels)
            assert np.isin(labels[~np.isnan(labels)], (0, 1)).all(), "labels are 0 and 1"
    return "read"


def _check_picture(found) -> None:
    assert found.dtype in (np.uint8, np.uint16) and found.ndim in (2, 3), found.dtype
    assert found.ndim == 2 or found.shape[2] == 3, found.shape
    assert found.size <= 3 * MAX_PIXELS


def _pictures():
    """Small files of each format and mode."""
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 255, (9, 7)).astype(np.uint8))
    colour = Image.fromarray(rng.integers(0, 255, (9, 7, 4)).astype(np.uint8))
    deep = Image.fromarray(rng.integers(0, 65535, (9, 7)).astype(np.uint16))
    for image, format_, more in (
            (grey, "PNG", {}), (grey.convert("1"), "PNG", {}), (colour, "PNG", {}),
            (deep, "PNG", {}), (grey.convert("P"), "PNG", {"transparency": 3}),
            (grey, "JPEG", {}), (colour.convert("RGB"), "JPEG", {"progressive": True}),
            (grey, "BMP", {}), (colour.convert("RGB"), "BMP", {}), (deep, "TIFF", {}),
            (grey, "TIFF", {"compression": "tiff_lzw"}), (grey.convert("F"), "TIFF", {}),
            (colour, "TIFF", {"compression": "tiff_adobe_deflate"}),
            (grey.convert("1"), "TIFF", {"compression": "group4"})):
        file = io.BytesIO()
        image.save(file, format_, **more)
        yield file.getvalue()


def _png_checksums(content: bytearray) -> None:
    """Mend the checksum of every chunk, so that what is inside is looked at."""
    place = 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place:place + 4], "big")
        end = place + 8 + length
        if end + 4 > len(content):
            return
        content[end:end + 4] = zlib.crc32(bytes(content[place + 4:end])).to_bytes(4, "big")
        place = end + 4


def _declared_pixels(content: bytes) -> int:
    """Bytes of the decoded picture by its header; RGBA at most, and copies of it in float."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(bytes(content)))
        pixels = image.width * image.height
        return (16 * pixels if pixels <= MAX_PIXELS else 0) + len(content)
    except Exception:  # a hostile file declares nothing
        return len(content)


def _dicoms():
    """Grey, inverted and colour files, and one that is compressed."""
    from pydicom.dataset import Dataset, FileMetaDataset

    rng = np.random.default_rng(0)
    for shape, kind in (((6, 5), "MONOCHROME2"), ((6, 5), "MONOCHROME1"), ((6, 5, 3), "RGB")):
        dataset, meta = Dataset(), FileMetaDataset()
        meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        dataset.file_meta = meta
        dtype = np.uint8 if len(shape) == 3 else np.uint16
        dataset.PhotometricInterpretation = kind
        dataset.Rows, dataset.Columns = shape[:2]
        dataset.SamplesPerPixel = 3 if len(shape) == 3 else 1
        dataset.BitsAllocated = dataset.BitsStored = 8 * np.dtype(dtype).itemsize
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = 0
        if len(shape) == 3:
            dataset.PlanarConfiguration = 0
        else:
            dataset.WindowCenter, dataset.WindowWidth = "2000", "3000"
            dataset.RescaleSlope, dataset.RescaleIntercept = "2", "-100"
        dataset.PixelData = rng.integers(0, 255, shape).astype(dtype).tobytes()
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        yield file.getvalue()


def _other_tags(rng: random.Random, content: bytes) -> bytes:
    """Fields with values that they must not have, or none; written as they are."""
    from pydicom import config, dcmread

    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE
    dataset = dcmread(io.BytesIO(content))
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(list(TAGS))
        target = dataset.file_meta if name == "TransferSyntaxUID" else dataset
        if rng.random() < 0.25:
            if name in target:
                delattr(target, name)
        else:
            with contextlib.suppress(ValueError):  # what pydicom itself refuses to hold
                setattr(target, name, rng.choice(TAGS[name]))
    if rng.random() < 0.2:
        dataset.PixelData = dataset.PixelData[:rng.choice((0, 1, 7))]
    file = io.BytesIO()
    try:
        dataset.save_as(file, enforce_file_format=False)
    except Exception:  # what pydicom cannot write is no case
        return content
    return file.getvalue()


def _arrays() -> dict[str, np.ndarray]:
    images = np.arange(6 * 5 * 4, dtype=np.uint8).reshape(6, 5, 4)
    return {"images": images, "labels": np.array([0, 1] * 3),
            "split": np.array(["train", "train", "val", "val", "test", "test"]),
            "classes": np.array(["clear", "spot"]), "patient_id": np.arange(6)}


def _npz(rng: random.Random, arrays: dict[str, np.ndarray]) -> bytes:
    """An `.npz` of which one array is of another shape, type or header."""
    arrays = dict(arrays)
    name = rng.choice(list(arrays))
    change, header = rng.random(), None
    if change < 0.2:
        del arrays[name]
    elif change < 0.4:
        kinds = ("S3", "U5") if arrays[name].dtype.kind == "U" else (
            "f8", "f4", "i8", "u1", "S3", "U5", "?", "c16")
        arrays[name] = arrays[name].astype(rng.choice(kinds))
    elif change < 0.55:
        arrays[name] = rng.choice((arrays[name][:3], arrays[name][None], arrays[name][..., None],
                                   np.zeros(0), np.float64(3), np.zeros((0, 5, 4), np.uint8)))
    elif change < 0.65:
        arrays[name] = np.full(arrays[name].shape, rng.choice((np.nan, np.inf, -1, 2, 1e300,
                                                              10**9, 10**18)))
    elif change < 0.9:
        shape = rng.choice(("(1099511627776,)", "(6, 5, 4", "(-1,)", "(6, 5, 1000000)", "()",
                            "(2147483648, 2147483648)", "(True,)", "('a',)"))
        header = f"{{'descr': '{rng.choice(('|u1', '<f8', '|O', '<U9', 'x', '|V2147483647'))}', " \
                 f"'fortran_order': {rng.choice(('False', 'True', '1'))}, 'shape': {shape}, }}"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as zip_:
        for key, value in arrays.items():
            part = io.BytesIO()
            np.save(part, value, allow_pickle=False)
            content = part.getvalue()
            if key == name and header is not None:
                text = header.encode().ljust(117) + b"\n"
                content = content[:8] + struct.pack("<H", len(text)) + text + content[128:]
            zip_.writestr(f"{key}.npy", content)
    return file.getvalue()


def _declared_arrays(content: bytes) -> int:
    """What the zip says that its parts take."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as zip_:
            return sum(info.file_size for info in zip_.infolist())
    except Exception:  # a hostile file declares nothing
        return len(content)


def _layouts(root: Path) -> list[tuple[Path, str, bytes]]:
    """Folders of tables and pictures in published layouts: folder, table, its content."""
    from tests.data.conftest import write_chexpert, write_mimic_lt, write_nih_lt, write_padchest

    found = []
    for write in (write_chexpert, write_mimic_lt, write_nih_lt, write_padchest):
        folder = write(root / write.__name__)
        for table in sorted(folder.rglob("*.csv")):
            found.append((folder, str(table.relative_to(folder)), table.read_bytes()))
    return found


def _other_cells(rng: random.Random, content: bytes) -> bytes:
    """A table in which cells, rows, columns or bytes are others."""
    rows = [line.split(b",") for line in content.splitlines()]
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind, row = rng.random(), rng.choice(rows)
        if kind < 0.5 and row:
            row[rng.randrange(len(row))] = rng.choice(CELLS).encode("utf-8", "surrogatepass")
        elif kind < 0.6:
            rows.remove(row)
            rows = rows or [[b""]]
        elif kind < 0.7:
            rows.append(list(row))
        elif kind < 0.8 and row:
            row.pop(rng.randrange(len(row)))
        elif kind < 0.9:
            row.append(rng.choice(CELLS).encode("utf-8", "surrogatepass"))
        else:
            rng.shuffle(rows)
    content = b"\n".join(b",".join(row) for row in rows)
    if rng.random() < 0.3 and content:
        changed = bytearray(content)
        _bytes(rng, changed, 0)
        content = bytes(changed)
    if rng.random() < 0.05:
        content = content.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-8-sig")))
    return content


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--cases", type=int, default=10_000)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parse.add_argument("--state", type=Path, help="JSON file of counts, to go on from")
    parse.add_argument("--case", type=int, help="examine this case alone, in this process")
    args = parse.parse_args()
    examiner = Examiner(args.only)
    try:
        if args.case is not None:
            print(examiner(case_random(args.seed, args.case)))
            return 0
        began = time.monotonic()
        counts, findings = run_cases(examiner, args.cases, args.seed, args.state)
        print_counts(counts, findings, time.monotonic() - began)
        return int(any(name.startswith(FINDING) for name in counts))
    finally:
        examiner.close()


if __name__ == "__main__":
    sys.exit(main())
