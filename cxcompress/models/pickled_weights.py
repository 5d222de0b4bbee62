"""Weights that the PathoNet compression scripts pickled, read without unpickling anything else.

    weights = read_pickled_weights("0-0-0-256-0.0001-1e-05-5-75-147.1456.h5")

Their `.h5` files are no HDF5: they hold `pickle.dumps(model.get_weights())`. A pickle can name any
function for Python to call, so this reader knows a handful (an ndarray, a dtype, bytes, and how
NumPy of both generations rebuilds arrays) and answers each with a class of its own that takes
numbers only: NumPy's own code never sees what the file says. Every other name is refused before
anything is called.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cxcompress.errors import InputError

MOST_BYTES = 500_000_000
NUMBERS = re.compile(r"[<>|=]?(f2|f4|f8)")


class _Dtype:
    """What stands for `numpy.dtype` while reading: floating point numbers only."""

    def __init__(self, code: Any = "", *_: Any):
        if not isinstance(code, str) or NUMBERS.fullmatch(code) is None:
            raise pickle.UnpicklingError(f"holds {str(code)[:20]!r} and not floating point numbers")
        self.code, self.order = code.lstrip("<>|="), "<"

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subdtype, names, fields, item size, alignment, flags)
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError("holds an unusual number format")
        if any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("holds structured arrays")
        self.order = "<" if state[1] in "=|" else state[1]

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Array:
    """What stands for `numpy.ndarray` while reading."""

    array: NDArray | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Dtype):
            raise pickle.UnpicklingError("holds an array in an unusual form")
        _, shape, form, fortran, content = state
        self.array = _array(content, form, shape, "F" if fortran else "C")


def _array(content: Any, form: _Dtype, shape: Any, order: Literal["C", "F"]) -> NDArray:
    if not isinstance(content, bytes | bytearray) or not isinstance(shape, tuple) or not all(
            isinstance(side, int) and side >= 0 for side in shape) or order not in ("C", "F"):
        raise pickle.UnpicklingError("holds an array in an unusual form")
    if len(content) != math.prod(shape) * form.dtype.itemsize:
        raise pickle.UnpicklingError(f"{len(content)} bytes do not make an array of shape {shape}")
    return np.frombuffer(content, form.dtype).reshape(shape, order=order)


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if kind is not _Array or shape != (0,):
        raise pickle.UnpicklingError("holds an array in an unusual form")
    return _Array()


def _from_buffer(content: Any, form: Any, shape: Any, order: Any) -> _Array:
    if not isinstance(form, _Dtype):
        raise pickle.UnpicklingError("holds an array in an unusual form")
    found = _Array()
    found.array = _array(content, form, shape, order)
    return found


def _encode(text: Any, coding: Any) -> bytes:
    if not isinstance(text, str) or coding != "latin1":
        raise pickle.UnpicklingError("holds bytes in an unusual form")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """What old protocols write for the content of an empty array."""
    return b""


ADMITTED = {
    ("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode, ("__builtin__", "bytes"): _no_bytes,
}
"""All names that a file may use."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"asks for {module}.{name}, which is no array of numbers")
        return ADMITTED[module, name]


def read_pickled_weights(path: str | PathLike) -> list[NDArray]:
    """The weights of such a file.

    Returns:
        float arrays, in the order of `model.get_weights()`.

    Raises:
        InputError: If the file is missing, or holds anything but a list of arrays of floating
            point numbers.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: more than {MOST_BYTES // 10**6} MB, and so no weights of "
                             "PathoNet")
        found = _Reader(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except InputError:
        raise
    except Exception as error:  # whatever a crafted stream makes the reader stumble over
        raise InputError(f"{path}: not the weights that the PathoNet scripts pickle "
                         f"({str(error) or type(error).__name__:.120})") from error
    if not isinstance(found, list) or not found or not all(
            isinstance(item, _Array) and item.array is not None for item in found):
        raise InputError(f"{path}: holds no list of weight arrays")
    return [item.array for item in found]
