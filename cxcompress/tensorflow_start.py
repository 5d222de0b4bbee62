"""Importing Keras and TensorFlow without their noise, with memory kept between steps.

    start_tensorflow()      # before anything that imports Keras
"""

from __future__ import annotations

import ctypes
import os
import sys

from cxcompress.errors import InputError, MissingExtra, out_of_memory

# Parameters of mallopt(3), glibc's malloc.h.
M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -2, -4, -8
KEPT_FREE_BYTES = 256 * 2**20


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step instead of giving it back to the system.

    TensorFlow 2.21 sets `M_TRIM_THRESHOLD` to 128 kB as soon as a Python dataset is read, which
    makes every step map its activations and page them in anew: half of the time of a training
    was the kernel's. With one arena, no mappings of its own and 256 MiB kept, an epoch of
    fine-tuning PathoNet takes half the time (`experiments/results/fine_tuning.md`). Elsewhere
    than with glibc nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for parameter, value in ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TOP_PAD, KEPT_FREE_BYTES)):
        mallopt(parameter, value)


def start_tensorflow() -> None:
    """Import Keras and its backend and touch a device, without the lines that TensorFlow prints.

    It writes them to file descriptor 2 itself, past every logging setting. Failures to import
    are exceptions, and are raised.

    Raises:
        MissingExtra: If TensorFlow is not installed.
        InputError: If it cannot be loaded.
        MemoryError: If there is too little memory for it.
    """
    if "tensorflow" in sys.modules:
        return
    keep_freed_memory()
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.zeros(1)
    except ImportError as error:
        if out_of_memory(error):
            raise MemoryError from error
        if isinstance(error, ModuleNotFoundError):
            raise MissingExtra("tensorflow", "train") from error
        raise InputError(f"tensorflow is installed but cannot be loaded ({error}); install it "
                         "again: pip install 'cxcompress[train]'") from error
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
