"""Clinical cut-offs as data: which class of decision an index falls into.

    cut_offs = CutOffs.known()["ikwg"]
    cut_offs.classes("ki67_index", [0.04, 0.05, 0.29, 0.30])      # 0, 0, 1, 2

`cut_offs.json` holds those that ship: `pathonet` and `ikwg`. A file of the same form adds others.
An edge is `[value, side]`; the side says whether the value itself belongs to the class below
(`"lower"`) or above (`"upper"`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxcompress.errors import InputError

FILE = Path(__file__).with_name("cut_offs.json")
INDICES = ("ki67_index", "til_fraction")


@dataclass(frozen=True)
class CutOffs:
    """Edges between classes, for one or both indices.

    Args:
        name: E.g. `"ikwg"`.
        edges: By index, `(value, "lower" or "upper")` in rising order.
        source: Where they come from.
    """

    name: str
    edges: Mapping[str, tuple[tuple[float, str], ...]]
    source: str = ""

    def classes(self, index: str, values: ArrayLike) -> NDArray[np.int64]:
        """Class of each value, 0 the lowest; NaN is class 0.

        Args:
            index: `"ki67_index"` or `"til_fraction"`.
            values: Fractions of 1.
        """
        values = np.asarray(values, np.float64)
        return sum(((values >= edge if side == "upper" else values > edge).astype(np.int64)
                    for edge, side in self.edges[index]), np.zeros(values.shape, np.int64))

    def labels(self, index: str) -> list[str]:
        """Names of the classes, e.g. `"< 16%"`, `"16–30%"`, `"> 30%"`."""
        edges = self.edges[index]
        first, last = edges[0], edges[-1]
        names = [f"{'<' if first[1] == 'upper' else '≤'} {100 * first[0]:g}%"]
        names += [f"{100 * low:g}–{100 * high:g}%" for (low, _), (high, _) in
                  zip(edges, edges[1:], strict=False)]
        return [*names, f"{'≥' if last[1] == 'upper' else '>'} {100 * last[0]:g}%"]

    @classmethod
    def known(cls, path: str | PathLike | None = None) -> dict[str, CutOffs]:
        """The cut-offs that ship, and those of a file of the same form, by name.

        Raises:
            InputError: If the file cannot be read or an edge is impossible.
        """
        found = _read(FILE)
        return found | _read(Path(path)) if path is not None else found


def _read(path: Path) -> dict[str, CutOffs]:
    try:
        content = json.loads(path.read_text("utf-8"))
        return {str(name): CutOffs(str(name), {
            index: _edges(path, name, entry[index]) for index in INDICES if index in entry},
            str(entry.get("source", ""))) for name, entry in content.items()}
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not a file of cut-offs ({error}); see "
                         "cxcompress/evaluation/cut_offs.json for the form") from error


def _edges(path: Path, name: str, edges) -> tuple[tuple[float, str], ...]:
    edges = tuple((float(value), str(side)) for value, side in edges)
    values = [value for value, _ in edges]
    if not edges or not all(0 < value < 1 for value in values) or values != sorted(set(values)):
        raise InputError(f"{path}: the edges of {name} must rise between 0 and 1 (16% is 0.16). "
                         f"Received: {values}")
    if stray := [side for _, side in edges if side not in ("lower", "upper")]:
        raise InputError(f"{path}: an edge of {name} belongs to the lower or upper class, not "
                         f"{stray[0]!r}")
    return edges
