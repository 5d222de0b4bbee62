"""Write a Keras model to a file: whole or not at all, on a full disk too.

    save_model(model, "results/student.h5")

Keras lets HDF5 write to the disk itself, and HDF5 (1.14) answers a full disk with a segmentation
fault of the whole process, or closes a file that lacks its end without an error. So `.h5` files are
made in memory, and written as one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from cxcompress.models.operations import operations_named
from cxcompress.runs import atomic_path, write_atomic

if TYPE_CHECKING:
    import keras

HDF5_SUFFIXES = (".h5", ".hdf5")


def save_model(model: keras.Model, path: str | os.PathLike) -> None:
    """Write a model, replacing what the file held; `.h5` without its optimiser's state.

    Args:
        model: Any.
        path: Ends in `.h5`, `.hdf5` or `.keras`.

    Raises:
        InputError: If the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in HDF5_SUFFIXES:
        with atomic_path(path) as temporary:
            # Keras goes by the ending.
            named = temporary.with_name(f"{temporary.name}{path.suffix}")
            try:
                model.save(named, zipped=True)
                named.replace(temporary)
            finally:
                named.unlink(missing_ok=True)
        return
    from keras.src.legacy.saving.legacy_h5_format import save_model_to_hdf5

    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        save_model_to_hdf5(model, file, include_optimizer=False)
        description = json.loads(file.attrs["model_config"])
        named_too = operations_named(description)
        if named_too != description:  # or Keras could not read what it wrote
            file.attrs["model_config"] = json.dumps(named_too).encode()
        file.flush()
        image = file.id.get_file_image()
    write_atomic(path, image)
