"""What compression saved. A ratio is ours / original: below 1 is better, everywhere.

    ratios = Ratios.of(container_bytes=61_000, parameters=228_898, file_bytes=2_800_000)
    ratios.space_ratio.value          # 0.0666
    ratios.space_ratio.inverse        # 15.0
    print("\\n".join(ratios.summary()))

- `space_ratio`: container bytes / (4 × number of all parameters).
- `file_ratio`: container bytes / bytes of the file given, which may hold optimizer state.
- `memory_ratio`: peak process memory.
- `time_ratio`: seconds / compiled Keras call, same threads and batch.
- `time_ratio_predict`: seconds / Keras `model.predict`, same threads and batch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

BYTES_PER_PARAMETER = 4


@dataclass(frozen=True)
class Ratio:
    """Two quantities of the same unit, ours and the original's.

    Args:
        ours, original: Both positive.
        unit: `"bytes"` or `"seconds"`.

    Raises:
        ValueError: If either is not positive.
    """

    ours: float
    original: float
    unit: str

    def __post_init__(self):
        if not (self.ours > 0 and self.original > 0):
            raise ValueError(f"a ratio needs two positive quantities. "
                             f"Received: {self.ours} and {self.original} {self.unit}")

    @property
    def value(self) -> float:
        """ours / original; below 1 is better."""
        return self.ours / self.original

    @property
    def inverse(self) -> float:
        """original / ours: "so many times smaller" or "faster"."""
        return self.original / self.ours


@dataclass(frozen=True)
class Ratios:
    """The ratios of one compressed model; None = not measured."""

    space_ratio: Ratio
    file_ratio: Ratio | None = None
    memory_ratio: Ratio | None = None
    time_ratio: Ratio | None = None
    time_ratio_predict: Ratio | None = None

    @classmethod
    def of(
        cls,
        *,
        container_bytes: int,
        parameters: int,
        file_bytes: int | None = None,
        memory_bytes: tuple[int, int] | None = None,
        seconds: float | None = None,
        seconds_compiled: float | None = None,
        seconds_predict: float | None = None,
    ) -> Ratios:
        """The ratios of what was measured.

        Args:
            container_bytes: Size of the compressed file.
            parameters: All parameters of the original, trained or not.
            file_bytes: Size of the original's file as given.
            memory_bytes: Peak process memory, (ours, original).
            seconds: Ours, for one batch.
            seconds_compiled: The original's compiled Keras call on that batch.
            seconds_predict: The original's `model.predict` on that batch.

        Raises:
            ValueError: If a quantity is not positive.
        """
        def optional(ours: float | None, original: float | None, unit: str) -> Ratio | None:
            return None if ours is None or original is None else Ratio(ours, original, unit)

        ours, original = memory_bytes or (None, None)

        return cls(
            Ratio(container_bytes, BYTES_PER_PARAMETER * parameters, "bytes"),
            optional(container_bytes, file_bytes, "bytes"),
            optional(ours, original, "bytes"),
            optional(seconds, seconds_compiled, "seconds"),
            optional(seconds, seconds_predict, "seconds"),
        )

    def _measured(self) -> list[tuple[str, Ratio]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self)
                if getattr(self, field.name) is not None]

    def summary(self) -> list[str]:
        """One line a ratio, with its inverse beside it."""
        lines = []
        for name, ratio in self._measured():
            digits, word = (".4g", "fast") if ratio.unit == "seconds" else (",.0f", "small")
            lines.append(f"{name} {ratio.value:.4f} ({ratio.inverse:.2f} times as {word}: "
                         f"{ratio.ours:{digits}} of {ratio.original:{digits}} {ratio.unit})")
        return lines

    def to_dict(self) -> dict[str, float]:
        """`{"space_ratio": ..., "space_ratio_inverse": ...}` of what was measured."""
        flat: dict[str, float] = {}
        for name, ratio in self._measured():
            flat |= {name: ratio.value, f"{name}_inverse": ratio.inverse}
        return flat
