"""Tables for the terminal, and numbers as people read them.

    print(text_table([{"part": "codebooks", "bytes": "1,024"}], align={"bytes": "right"}))
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cxcompress.evaluation import Estimate, Ratio


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` decimals; "–" where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}"


def interval(estimate: Estimate, digits: int = 3, sign: bool = False) -> str:
    """`0.912 (0.871 to 0.943)`; `sign` writes a plus before positive numbers."""
    if not math.isfinite(estimate.value):
        return "undefined"
    plus = "+" if sign else ""
    value, low, high = (
        f"{part:{plus}.{digits}f}" if math.isfinite(part) else "–"
        for part in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} ({low} to {high})"


def ratio(measured: Ratio | None) -> str:
    """Ours / original with its inverse beside it: `0.2500 (1/4.00)`."""
    return "–" if measured is None else f"{measured.value:.4f} (1/{measured.inverse:.2f})"


def byte_count(count: float) -> str:
    """Decimal units: `915.6 kB`, `12.83 MB`."""
    if count < 1e3:
        return f"{count:.0f} B"
    if count < 1e6:
        return f"{count / 1e3:.1f} kB"
    return f"{count / 1e6:.2f} MB"


def text_table(rows: Sequence[Mapping[str, str]], right: Sequence[str] = ()) -> str:
    """A plain-text table; the first row's keys are the header.

    Args:
        rows: Cells as text, all rows with the same keys.
        right: Columns to align to the right.
    """
    if not rows:
        return ""
    columns = list(rows[0])
    widths = {c: max(len(c), *(len(str(row[c])) for row in rows)) for c in columns}

    def line(cells: Mapping[str, str]) -> str:
        return "  ".join(
            str(cells[c]).rjust(widths[c]) if c in right else str(cells[c]).ljust(widths[c])
            for c in columns
        ).rstrip()

    rule = "  ".join("-" * widths[c] for c in columns)
    return "\n".join([line({c: c for c in columns}), rule, *(line(row) for row in rows)])


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """The same as a table of Markdown."""
    if not rows:
        return ""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([str(row[c]) for c in columns] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
