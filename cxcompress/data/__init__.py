"""Image collections by name or path, in one shape.

    collection = open_collection("synthetic:cxr")               # phantoms, drawn at once
    collection = open_collection("synthetic:cxr20_256", count=500, seed=1)
    collection = open_collection("synthetic:ki67")              # fields of nuclei
    collection = open_collection("medmnist:pneumoniamnist_64")  # fetched once, checked
    collection = open_collection("nih_subset.npz")              # see arrays.py
    collection = open_collection("chest_xray/")                 # train/<class>/*.png, …
    collection = open_collection("SHIDC-B-Ki-67/")              # Train/*.jpg + *.json, …
    collection = open_collection("ChestX-ray14/")               # Data_Entry_2017.csv + PNGs
    collection = open_collection("NIH-CXR-LT/")                 # miccai2023_nih-cxr-lt_….csv
    collection = open_collection("MIMIC-CXR-LT/")               # miccai2023_mimic-cxr-lt_….csv
    collection = open_collection("CheXpert-v1.0-small/")        # train.csv, valid.csv + JPEGs
    collection = open_collection("HAM10000/")                   # HAM10000_metadata.csv + JPEGs
    collection = open_collection("cifar100")                    # or a cifar-100-… folder
    collection = open_collection("PadChest/")                   # or any CSV: mapped_table.py
    collection = open_collection("medimaging/")                 # dataset_full/14_train.csv, …
    collection = open_collection("ChestX-ray14/", strict=True)  # refuses what does not match

    collection = with_validation(collection)      # holds 15% out of train if there is no val part
    collection.train.images, collection.train.labels, collection.train.patient_id
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from cxcompress.data.collection import Collection, Part
from cxcompress.data.splits import hold_out, with_validation, without_leaks
from cxcompress.errors import InputError

__all__ = ["Collection", "Part", "hold_out", "open_collection", "with_validation"]


def open_collection(name_or_path: str | PathLike, *, size: int | None = None,
                    channels: int | None = None, seed: int = 0, count: int | None = None,
                    strict: bool = False, check: str = "auto", uncertain: str = "ignore",
                    columns: Mapping | None = None) -> Collection:
    """Open a collection by its name or path.

    No patient is in two parts: a patient who is stays in the later one alone, said in the log.

    Args:
        name_or_path: `synthetic:cxr[20][_<size>]`, `synthetic:ki67[_<size>]`,
            `medmnist:<set>[_64|_128|_224]`, `cifar100`, an `.npz` file, or a folder.
        size, channels, seed, count: Of generated collections: pixels a side, 1 or 3 channels
            (radiographs), the cohort, and the number of images. Recorded collections come whole
            and as they are stored.
        strict, check, uncertain, columns: Of folders with label tables, see
            `label_tables.Opening`; `strict` also refuses damaged files of image folders, and
            patients who are in two parts of any collection of radiographs.

    Returns:
        A `Collection`; its val part is None where the source has none.

    Raises:
        InputError: If there is no such collection or it cannot be used as it is.
    """
    def options():
        from cxcompress.data.label_tables import UNCERTAIN, Opening

        if uncertain not in UNCERTAIN:
            raise InputError(f"--uncertain {uncertain}: choose from {', '.join(UNCERTAIN)}")
        return Opening(strict, check, uncertain, columns)

    collection = _opened(name_or_path, size, channels, seed, count, options)
    return without_leaks(collection, strict)


def _opened(name_or_path, size, channels, seed, count, options) -> Collection:
    name = str(name_or_path)
    if name.startswith("synthetic:cxr"):
        from cxcompress.data.synthetic_cxr import open_synthetic_cxr

        return open_synthetic_cxr(name, size=size, channels=channels or 1, count=count, seed=seed)
    if name.startswith("synthetic:ki67"):
        from cxcompress.data.shidc import open_synthetic_ki67

        return open_synthetic_ki67(name, size=size, count=count, seed=seed)
    if name.startswith("medmnist:"):
        from cxcompress.data.medmnist import open_medmnist

        return open_medmnist(name)
    if name == "cifar100":
        from cxcompress.data.cifar100 import open_cifar100

        return open_cifar100(name)
    if name.startswith("synthetic:"):
        raise InputError(f"{name}: unknown; there are synthetic:cxr and synthetic:ki67")
    path = Path(name_or_path)
    if path.is_dir():
        return _opened_folder(path, options())
    if path.suffix.lower() == ".npz":
        from cxcompress.data.arrays import open_arrays

        return open_arrays(path)
    if path.exists():
        raise InputError(f"{name}: neither a folder nor an .npz file; give one of these, "
                         "synthetic:cxr, synthetic:ki67, medmnist:<set> or cifar100")
    raise InputError(f"{name}: no such file or folder, and no name of a collection "
                     "(synthetic:cxr, synthetic:ki67, medmnist:<set>, cifar100)")


def _opened_folder(path: Path, options) -> Collection:
    from cxcompress.data.chexpert import is_chexpert, open_chexpert
    from cxcompress.data.cifar100 import is_cifar100, open_cifar100
    from cxcompress.data.ham10000 import is_ham10000, open_ham10000
    from cxcompress.data.image_folder import open_image_folder
    from cxcompress.data.mapped_table import is_mapped, open_mapped
    from cxcompress.data.medimaging import is_medimaging, open_medimaging
    from cxcompress.data.mimic_cxr_lt import is_mimic_cxr_lt, open_mimic_cxr_lt
    from cxcompress.data.nih import is_nih, open_nih
    from cxcompress.data.nih_cxr_lt import is_nih_cxr_lt, open_nih_cxr_lt
    from cxcompress.data.shidc import is_shidc, open_shidc

    if options.columns is not None:
        return open_mapped(path, options)
    # NIH-CXR-LT before NIH: its folder may hold NIH's own table too.
    for recognised, opener in (
            (is_nih_cxr_lt, open_nih_cxr_lt), (is_mimic_cxr_lt, open_mimic_cxr_lt),
            (is_medimaging, open_medimaging), (is_nih, open_nih), (is_mapped, open_mapped),
            (is_chexpert, open_chexpert)):
        if recognised(path):
            return opener(path, options)
    for recognised, opener in ((is_shidc, open_shidc), (is_ham10000, open_ham10000),
                               (is_cifar100, open_cifar100)):
        if recognised(path):
            return opener(path)
    return open_image_folder(path, strict=options.strict, check=options.check)
