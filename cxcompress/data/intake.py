"""What opening a collection counted and left out: rows without images, images without rows, ….

    collection = open_collection("ChestX-ray14")
    print("\n".join(collection.intake.lines()))
    collection.intake.faults()["rows without an image"]      # their names
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from cxcompress.errors import InputError


@dataclass(frozen=True)
class Intake:
    """Counts and names, over all label tables of a collection.

    Args:
        rows: Rows of the tables.
        files: Picture files in the folder.
        used: Images that the collection holds.
        rows_without_image: Image names of rows whose picture is not there.
        images_without_row: Picture files that no row names.
        duplicates: Image names that more than one row holds, with the same labels.
        unknown_labels: Labels that are no class of the collection, with the number of their rows.
        unreadable: Pictures that are damaged or of a kind that cannot be read, with the reason.
        leaking: Patients who were in two parts; their images stay in the later one alone.
        left_out: What the layout leaves out on purpose, with the number of images.
    """

    rows: int = 0
    files: int = 0
    used: int = 0
    rows_without_image: tuple[str, ...] = ()
    images_without_row: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    unknown_labels: Mapping[str, int] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    leaking: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Intake) -> Intake:
        """Both, for collections of several tables; `files` counts the one folder once."""
        values = {}
        for one in fields(self):
            ours, theirs = getattr(self, one.name), getattr(other, one.name)
            if one.name == "files":
                values[one.name] = max(ours, theirs)
            elif isinstance(ours, Mapping):
                values[one.name] = {key: ours.get(key, 0) + theirs.get(key, 0)
                                    for key in {**ours, **theirs}}
            else:
                values[one.name] = ours + theirs
        return Intake(**values)

    def faults(self) -> dict[str, list[str]]:
        """Names by kind of fault; kinds without any are left out."""
        found = {
            "rows without an image": list(self.rows_without_image),
            "images without a row": list(self.images_without_row),
            "image names in several rows": list(self.duplicates),
            "unknown labels": [f"{name} ({count} rows)"
                               for name, count in self.unknown_labels.items()],
            "unreadable images": list(self.unreadable),
            "patients in two parts": list(self.leaking),
        }
        return {kind: names for kind, names in found.items() if names}

    def lines(self) -> list[str]:
        """What a user must read: a line a fault with its count and first name."""
        found = [f"{self.used} images used of {self.rows} rows and {self.files} picture files"]
        found += [f"{count} {what} left out" for what, count in self.left_out.items()]
        consequences = {
            "rows without an image": "left out", "images without a row": "left out",
            "image names in several rows": "their first row counts",
            "unknown labels": "ignored", "unreadable images": "skipped",
            "patients in two parts": "kept in the later part alone"}
        found += [f"{len(names)} {kind}: {consequences[kind]}; the first: {names[0]}"
                  for kind, names in self.faults().items()]
        return found

    def require_none(self, name: str) -> None:
        """For `--strict`.

        Raises:
            InputError: If there is any fault.
        """
        faults = self.faults()
        if faults:
            counts = ", ".join(f"{len(names)} {kind}" for kind, names in faults.items())
            first = next(iter(faults.values()))[0]
            raise InputError(f"{name}: {counts}; the first: {first} (--strict; without it they "
                             "are left out, and cxcompress collection lists them all)")
