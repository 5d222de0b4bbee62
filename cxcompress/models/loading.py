"""Opens a model from any file that Keras or this package wrote; nothing in the file is executed.

    model = load_model("model.keras")                   # Keras 3, or Keras 2.12 and later
    model = load_model("model.h5")                      # whole model of Keras 2 or Keras 3
    model = load_model("compressed.h5")                 # our container: shared weights decoded
    model = load_model("best.weights.h5", architecture="resnet50",
                       input_shape=(224, 224, 1), classes=14)

Models come back uncompiled: old training configurations break `fit`, and a stored loss may be
anything. The kind of a file is found from its bytes; its suffix does not matter.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from cxcompress.errors import InputError
from cxcompress.models.building import build
from cxcompress.models.keras2 import modernised
from cxcompress.models.kernels import set_weights, variables_by_path
from cxcompress.models.operations import operations_named
from cxcompress.models.untrusted import check_description
from cxcompress.storage import Container, is_container, read_container

MAX_DESCRIPTION_BYTES = 64 * 10**6
"""Longest model description that is read; the largest networks need well under 1 MB."""

_EXPECTED = "give a Keras .keras or .h5 file, or a container of cxcompress"


def load_model(
    path: str | os.PathLike,
    *,
    architecture: str | None = None,
    input_shape: tuple[int, int, int] | None = None,
    classes: int | None = None,
    activation: str | None = None,
) -> keras.Model:
    """Opens a model, uncompiled.

    Args:
        path: A whole model (`.keras`, HDF5 of Keras 2 or 3), a container of this package, or
            a file of weights alone.
        architecture: For weights alone: the network they belong to, one of `models.names()`.
        input_shape: For weights alone: height, width, channels.
        classes: For weights alone: number of outputs.
        activation: For weights alone: of the output.

    Raises:
        InputError: If the file cannot be opened as a model, in one line that says why.
    """
    path = Path(path)
    kind = _kind(path)
    if kind == "container":
        return model_from_container(read_container(path))
    if kind == "keras":
        return _load_keras_zip(path)
    description, version, suffix = _read_hdf5(path)
    if description is not None:
        return _load_hdf5(path, suffix, description, version)
    if architecture is None or input_shape is None or classes is None:
        raise InputError(
            f"{path}: holds weights but no model; name the network they belong to "
            "(architecture, input_shape and classes), or save the whole model with "
            "model.save('model.keras')"
        )
    model = build(architecture, input_shape, classes, activation=activation)
    size = "x".join(map(str, input_shape))
    network = f"{architecture} ({size}, {classes} outputs)"
    with _keras_errors(path, f"these weights do not fit {network}"):
        _load_weights(model, path, suffix)
    return model


def model_from_container(container: Container) -> keras.Model:
    """The Keras model of a container: its architecture, with shared weights decoded to float32.

    Raises:
        InputError: If the architecture is refused (see `load_model`) or does not fit the weights.
    """
    model = model_from_architecture(container.architecture)
    set_weights(model, container.shared.weights())
    return model


def model_from_architecture(architecture: str) -> keras.Model:
    """The model that `architecture_json` described, with random weights.

    Raises:
        InputError: If the description is damaged or refused (see `load_model`).
    """
    description = _description(architecture, "the container's architecture")
    with _keras_errors("the container's architecture", "Keras cannot build it"):
        return keras.models.model_from_json(json.dumps(description))


def architecture_json(model: keras.Model) -> str:
    """The description that `model_from_container` rebuilds the model from.

    Equal models give equal text: how the model was compiled is left out, and the memory
    addresses that Keras writes for shared objects are replaced by running numbers.

    Raises:
        InputError: If the model cannot be described (a subclass of `keras.Model` without
            `get_config`), or could not be opened again (`Lambda` and custom layers).
    """
    name = f"model {model.name!r}"
    try:
        description = json.loads(model.to_json())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise InputError(
            f"{name}: Keras cannot write its architecture ({_first_line(error)}); rebuild it as "
            "a functional or sequential model"
        ) from error
    description = _reproducible(description, {})
    check_description(description, name)
    return json.dumps(description, separators=(",", ":"))


def _reproducible(node: Any, numbers: dict[int, int]) -> Any:
    if isinstance(node, list):
        return [_reproducible(item, numbers) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: numbers.setdefault(value, len(numbers))
        if key == "shared_object_id"
        else _reproducible(value, numbers)
        for key, value in node.items()
        if key != "compile_config"
    }


def _kind(path: Path) -> str:
    """`"container"`, `"keras"` or `"hdf5"`, from the file's bytes."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            raise InputError(
                f"{path}: a TensorFlow SavedModel folder, which Keras 3 does not open; save the "
                "model with model.save('model.h5') in the program that wrote it"
            )
        raise InputError(f"{path}: a folder; {_EXPECTED}")
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {_EXPECTED}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error

    if is_container(path):
        return "container"
    if h5py.is_hdf5(path):
        return "hdf5"
    suffix = path.suffix.lower()
    if not head:
        raise InputError(f"{path}: an empty file; {_EXPECTED}")
    if head.startswith(b"PK"):
        return _zip_kind(path)
    if suffix in (".pt", ".pth", ".ckpt"):
        raise InputError(f"{path}: a PyTorch file; {_EXPECTED}")
    if head.startswith(b"\x80"):
        raise InputError(
            f"{path}: a pickle of weight lists, as the PathoNet compression scripts wrote; never "
            "unpickled here: turn it into a model first, with import_pathonet.py"
        )
    if head[4:8] == b"TFL3":
        raise InputError(
            f"{path}: a LiteRT (TensorFlow Lite) model, which holds no Keras model; give the "
            "Keras file it was converted from"
        )
    raise InputError(f"{path}: not a Keras model (it starts with {head[:8]!r}); {_EXPECTED}")


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path}: a damaged or truncated .keras file ({error})") from error
    if {"config.json", "model.weights.h5"} <= set(members):
        return "keras"
    if any(member.endswith("data.pkl") for member in members):
        raise InputError(f"{path}: a PyTorch file; {_EXPECTED}")
    raise InputError(f"{path}: a zip file, but not a Keras one (no config.json); {_EXPECTED}")


def _read_hdf5(path: Path) -> tuple[str | None, str, str]:
    """The model's description (None: weights alone), Keras' version, the suffix Keras wants."""
    try:
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
            if "model_config" not in attributes:
                return None, "", _weights_suffix(file, path)
            version = attributes.get("keras_version")
            if version is None and isinstance(file.get("model_weights"), h5py.Group):
                version = file["model_weights"].attrs.get("keras_version")
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: a damaged or truncated HDF5 file ({_first_line(error)}); copy it again"
        ) from error
    version = version.decode("utf8", "replace") if isinstance(version, bytes) else version
    return attributes["model_config"], str(version or "2"), ".h5"


def _weights_suffix(file: h5py.File, path: Path) -> str:
    """The suffix by which Keras tells its two forms of weights files apart."""
    if "layer_names" in file.attrs or "layer_names0" in file.attrs:
        return ".h5"
    if "layers" in file or "_layer_checkpoint_dependencies" in file:
        return ".weights.h5"
    raise InputError(
        f"{path}: an HDF5 file, but neither a Keras model nor Keras weights "
        f"(it holds {', '.join(list(file)[:3]) or 'nothing'}); {_EXPECTED}"
    )


def _load_hdf5(path: Path, suffix: str, text: Any, version: str) -> keras.Model:
    if _is_old(version):
        return _load_whole(path, suffix, _description(text, path), version)
    # Before the check, which would take the operations for unknown layers.
    description = _description(text, path, operations_named)
    return _load_whole(path, suffix, description, version, description != json.loads(text))


def _description(
    text: Any, file: str | Path, respell: Callable[[dict], dict] = lambda found: found
) -> dict:
    """Parses, respells and checks a model description."""
    if not isinstance(text, str | bytes):
        raise InputError(f"{file}: its model description is damaged ({type(text).__name__})")
    if len(text) > MAX_DESCRIPTION_BYTES:
        raise InputError(f"{file}: its model description has {len(text):,} bytes; refused")
    try:
        description = respell(json.loads(text))
    except (ValueError, RecursionError, TypeError) as error:
        raise InputError(f"{file}: its model description is damaged ({error})") from error
    if not isinstance(description, dict) or not isinstance(description.get("class_name"), str) \
            or not isinstance(description.get("config"), dict | list):
        raise InputError(f"{file}: its model description is not one of a Keras model")
    check_description(description, str(file))
    return description


def _load_keras_zip(path: Path) -> keras.Model:
    with zipfile.ZipFile(path) as archive:
        texts = {}
        for member in ("config.json", "metadata.json"):
            try:
                if archive.getinfo(member).file_size > MAX_DESCRIPTION_BYTES:
                    raise InputError(f"{path}: its {member} is too large; refused")
                texts[member] = archive.read(member)
            except KeyError:
                texts[member] = b"{}"
            except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
                raise InputError(f"{path}: damaged .keras file ({_first_line(error)})") from error
    description = _description(texts["config.json"], path)
    try:
        version = str(json.loads(texts["metadata.json"]).get("keras_version", "3"))
    except (ValueError, AttributeError):
        version = "3"
    return _load_whole(path, ".keras", description, version)


def _is_old(version: str) -> bool:
    """Of Keras 2 and before."""
    return version.startswith(("0.", "1.", "2"))


def _load_whole(
    path: Path, suffix: str, description: dict, version: str, respelled: bool = False
) -> keras.Model:
    with _keras_errors(path, f"Keras {keras.__version__} cannot read this Keras {version} model"):
        if respelled or _is_old(version):
            if _is_old(version):
                description = modernised(description)
            root = keras.Sequential if description["class_name"] == "Sequential" else keras.Model
            model = root.from_config(description["config"])
        else:
            with _with_suffix(path, suffix) as named:
                model = keras.models.load_model(named, compile=False, safe_mode=True)
        _load_weights(model, path, suffix)
        return model


def _load_weights(model: keras.Model, path: Path, suffix: str) -> None:
    """Reads all weights or raises; Keras alone leaves what it does not find at random values."""
    floats = {
        name: variable
        for name, variable in variables_by_path(model).items()
        if "float" in variable.dtype
    }
    for variable in floats.values():
        variable.assign(np.full(variable.shape, np.nan, np.float32))
    with _with_suffix(path, suffix) as named, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they warn of is checked here
        model.load_weights(named)
    for name, variable in floats.items():
        if bool(keras.ops.any(keras.ops.isnan(variable))):
            raise InputError(f"{path}: holds no weights for {name} of {model.name}, or NaN ones")


@contextmanager
def _with_suffix(path: Path, suffix: str) -> Iterator[str]:
    """The file under a name that ends as Keras wants it; Keras decides by the suffix."""
    endings = (".h5", ".hdf5") if suffix == ".h5" else (suffix,)
    if path.name.endswith(endings) and not (
        suffix == ".h5" and path.name.endswith(".weights.h5")
    ):
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / f"model{suffix}"
        try:
            named.symlink_to(path.resolve())
        except OSError:
            shutil.copyfile(path, named)
        yield str(named)


@contextmanager
def _keras_errors(file: str | Path, problem: str) -> Iterator[None]:
    """Any failure of Keras on a file's content is the file's fault, said in one line.

    Keras, h5py and TensorFlow raise nearly every kind of exception on a damaged or unsuitable
    file, so the net is as wide as that.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{file}: {problem}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """The telling line of an error message: Keras wraps it in whole layer configurations."""
    text = str(error).strip() or type(error).__name__
    text = text.rsplit("Exception encountered:", 1)[-1].strip().split("\n", 1)[0]
    return text if len(text) <= 240 else f"{text[:240]}…"
