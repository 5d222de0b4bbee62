"""What a compression is called and what the name means.

    Compression.parse("pruCWS", clustercnn=256, clusterfc=32, prcnn=50, prfc=90)
    Compression.parse("UQ", clustercnn=16, clusterfc=0).k        # {"conv": 16, "dense": 0}

A name is, in this order: `pr` (prune first), `u` (unified: one codebook for all convolution
kernels, one for all dense kernels, one for all depthwise kernels), and a quantizer's name. `pr`
alone prunes and shares nothing. Without `u` every kernel has a codebook of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np

from cxcompress.errors import InputError
from cxcompress.quantization import weight_quantizer
from cxcompress.quantization.weight_quantizer import WeightQuantizer
from cxcompress.representation.types import MAX_LEVELS

QUANTIZERS = ("UQ", "CWS", "PWS", "ECSQ", "TCQ")

COMPRESSION_NAMES = ("pr",) + tuple(
    prune + unified + quantizer
    for prune in ("", "pr") for unified in ("u", "") for quantizer in QUANTIZERS
    if not (prune and quantizer == "TCQ"))
"""Every name that `Compression.parse` knows."""

FAMILIES = ("conv", "dense", "depthwise")
"""Kinds of kernels. Depthwise kernels take the numbers of `conv`, but share nothing with it."""

_FLAGS = {"conv": ("clustercnn", "prcnn"), "dense": ("clusterfc", "prfc")}


@dataclass(frozen=True)
class Compression:
    """How a model's kernels are pruned and shared.

    Args:
        quantizer: "UQ", "CWS", "PWS", "ECSQ", "TCQ", or None: prune only.
        scope: "unified" (one codebook a family) or "layer" (one a kernel).
        k: Shared values of "conv" and "dense" kernels; 0 leaves the family float.
        pruned_percent: Share of the smallest weights that each "conv" and "dense" kernel loses.
        keep_float: Layers left as they are: a layer's name or path ("block1/conv", also in the
            middle of a longer path), or "depthwise" for every depthwise kernel.
        grid: Where shared values may move in fine-tuning: "int8", an integer in [−127, 127] times
            one step, or "free".
        parameters: Further parameters of the quantizer, e.g. `{"bits_per_weight": 3.0}`.
    """

    quantizer: str | None
    scope: Literal["unified", "layer"]
    k: Mapping[str, int]
    pruned_percent: Mapping[str, float]
    keep_float: tuple[str, ...] = ()
    grid: Literal["int8", "free"] = "free"
    parameters: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(
        cls,
        name: str,
        *,
        clustercnn: int = 256,
        clusterfc: int = 256,
        prcnn: float = 0,
        prfc: float = 0,
        keep_float: Iterable[str] = (),
        grid: Literal["int8", "free"] | None = None,
        lambd: float | None = None,
        bits_per_weight: float | None = None,
        levels: int | None = None,
        tr: float | None = None,
        sqnr_db: float | None = None,
    ) -> Self:
        """A compression from its name and the command line's flags.

        Args:
            name: One of `COMPRESSION_NAMES`, e.g. "pruCWS".
            clustercnn: Shared values of convolution (and depthwise) kernels, 0 … 65536; 0 leaves
                them float.
            clusterfc: Shared values of dense kernels, 0 … 65536; 0 leaves them float.
            prcnn: Percent of each convolution (and depthwise) kernel to prune, in [0, 100).
            prfc: Percent of each dense kernel to prune, in [0, 100).
            keep_float: See `Compression`.
            grid: See `Compression`. None: "int8" for UQ and TCQ up to 256 values, else "free".
            lambd: ECSQ only: λ in squared weight units per bit.
            bits_per_weight: ECSQ only: entropy to reach.
            levels: ECSQ only: levels to leave alive.
            tr: ECSQ only: relative decrease of the cost at which it stops.
            sqnr_db: TCQ only: signal-to-noise ratio of the weights to reach, in dB, instead of
                the numbers of shared values.

        Raises:
            InputError: If the name is unknown, a number is out of range, or flags and name
                contradict each other.
        """
        if name not in COMPRESSION_NAMES:
            raise InputError(f"--compression {name}: no such compression; "
                             f"choose one of {', '.join(COMPRESSION_NAMES)}")
        parts = re.fullmatch(r"(pr)?(u)?(.*)", name)
        assert parts is not None  # it matches every text
        prune, unified, quantizer = parts.groups()
        k = {"conv": clustercnn, "dense": clusterfc}
        percent = {"conv": prcnn, "dense": prfc}
        _check_numbers(k, percent)
        _check_pruning(name, bool(prune), percent)
        parameters = {key: value for key, value in {
            "lambda_": lambd, "bits_per_weight": bits_per_weight, "levels": levels,
            "tolerance": tr}.items() if value is not None}
        if parameters and quantizer != "ECSQ":
            flag = {"lambda_": "lambd", "tolerance": "tr"}
            first = next(iter(parameters))
            raise InputError(f"--{flag.get(first, first)} belongs to ECSQ, received with {name}; "
                             "drop it")
        if sqnr_db is not None:
            if quantizer != "TCQ":
                raise InputError(f"--sqnr belongs to TCQ, received with {name}; drop it, or take "
                                 "TCQ or uTCQ")
            parameters["sqnr_db"] = float(sqnr_db)
        if not quantizer:
            k = {"conv": 0, "dense": 0}
        elif not any(k.values()):
            raise InputError(f"{name}: --clustercnn and --clusterfc are both 0, which leaves every "
                             "kernel float; give one of them, e.g. --clustercnn 256")
        for family, (cluster, pruned) in _FLAGS.items():
            if quantizer and k[family] == 1 and percent[family] > 0:
                raise InputError(f"--{cluster} 1 with --{pruned} {percent[family]:g} would make "
                                 f"every weight 0; give --{cluster} of 2 or more")
        compression = cls(
            quantizer=quantizer or None,
            scope="unified" if unified else "layer",
            k={family: int(value) for family, value in k.items()},
            pruned_percent={family: float(value) for family, value in percent.items()},
            keep_float=tuple(keep_float),
            grid=_grid(name, grid, quantizer, max(k.values())),
            parameters=parameters,
        )
        for family in ("conv", "dense"):
            if compression.k[family]:
                compression.quantizer_for(family).check()
        return compression

    @property
    def name(self) -> str:
        """The name that `parse` reads, e.g. "pruCWS"."""
        prune = "pr" if any(self.pruned_percent.values()) else ""
        unified = "u" if self.quantizer and self.scope == "unified" else ""
        return prune + unified + (self.quantizer or "")

    @property
    def allocates(self) -> bool:
        """Whether steps are chosen for all kernels together: TCQ a layer, for one SQNR."""
        return (self.quantizer == "TCQ" and self.scope == "layer"
                and "sqnr_db" in self.parameters)

    def percent_for(self, family: str) -> float:
        """Percent to prune of each kernel of a family (`FAMILIES`)."""
        return self.pruned_percent[_numbers_of(family)]

    def k_for(self, family: str) -> int:
        """Shared values of a family (`FAMILIES`), 0: float."""
        return self.k[_numbers_of(family)]

    def quantizer_for(self, family: str, **parameters: Any) -> WeightQuantizer:
        """A new quantizer for a family, e.g. `quantizer_for("conv")`."""
        if self.quantizer is None:
            raise ValueError(f"{self.name} shares no weights")
        return weight_quantizer.get(
            self.quantizer, k=self.k_for(family), **{**self.parameters, **parameters})

    def keeps_float(self, path: str, family: str) -> str | None:
        """The entry of `keep_float` that names this kernel, or None.

        Args:
            path: Keras variable path, e.g. "block1/conv/kernel".
            family: One of `FAMILIES`.
        """
        for entry in self.keep_float:
            if f"/{entry.strip('/')}/" in f"/{path}/" or entry == family == "depthwise":
                return entry
        return None

    def get_config(self) -> dict[str, Any]:
        """All fields, JSON-ready."""
        return asdict(self) | {"keep_float": list(self.keep_float)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The inverse of `get_config`."""
        return cls(**{**config, "keep_float": tuple(config.get("keep_float", ()))})


def _numbers_of(family: str) -> str:
    if family not in FAMILIES:
        raise ValueError(f"a kernel's family is one of {', '.join(FAMILIES)}. Received: {family!r}")
    return "conv" if family == "depthwise" else family


def _check_numbers(k: Mapping[str, int], percent: Mapping[str, float]) -> None:
    for family, (cluster, pruned) in _FLAGS.items():
        value = k[family]
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not 0 <= value <= MAX_LEVELS:
            raise InputError(f"--{cluster} must be a whole number, 1 to {MAX_LEVELS}, or 0 to "
                             f"leave these kernels float; received {value}")
        share = percent[family]
        if not (math.isfinite(share) and 0 <= share < 100):
            raise InputError(f"--{pruned} must be a percentage of 0 or more and below 100, "
                             f"received {share}")


def _check_pruning(name: str, prune: bool, percent: Mapping[str, float]) -> None:
    wanted = any(percent.values())
    if prune and not wanted:
        raise InputError(f"{name} prunes, but --prcnn and --prfc are both 0; give a percentage, "
                         f"e.g. --prcnn 50{', or take ' + name[2:] if name != 'pr' else ''}")
    if wanted and not prune:
        raise InputError(f"{name} does not prune, but --prcnn or --prfc is above 0; "
                         f"take pr{name}")


def _grid(
    name: str, grid: str | None, quantizer: str, k: int
) -> Literal["int8", "free"]:
    if grid is None:
        return "int8" if quantizer in ("UQ", "TCQ") and k <= 256 else "free"
    if grid == "free":
        return "free"
    if grid != "int8":
        raise InputError(f"--grid must be int8 or free, received {grid}")
    if k > 256:
        raise InputError(f"{name}: --grid int8 holds at most 255 shared values, received {k}; "
                         "take --grid free or at most 256 values")
    return "int8"
