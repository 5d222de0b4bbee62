"""`load` and `RuntimeModel`: a container, its graph filled with weights, and an interpreter."""

from __future__ import annotations

import logging
import mmap
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxcompress.errors import InputError, MissingExtra
from cxcompress.representation import SharedWeights
from cxcompress.runtime.filling import fill, placed_kernels
from cxcompress.storage import Container, Graph, ModelCard, read_container

if TYPE_CHECKING:
    from cxcompress.images import Preprocessing
    from cxcompress.tasks import Findings

logger = logging.getLogger(__name__)

AUTO = "auto"
LARGEST_GRAPH = 16
"""Bytes of a graph for each weight that the file holds, at most: 4 of a float, some used twice."""
PLANS = ("float32", "int8", "static_int8")
"""Weights and activations: both float; int8 and quantised on the fly; int8 and int8."""


def load(path: str | os.PathLike, plan: str = AUTO, threads: int | None = None) -> RuntimeModel:
    """Open a compressed file for prediction.

    Args:
        path: A container.
        plan: `"float32"`, `"int8"`, `"static_int8"`, or `"auto"`: the file's recommended one.
        threads: Of the interpreter; default one a core, 4 at most.

    Returns:
        A `RuntimeModel`.

    Raises:
        InputError: If the file is missing, damaged, of a newer version, or holds no such plan.
    """
    threads = _checked_threads(threads)
    file, (card, plan, plans, compression, name) = _read_and_filled(path, plan)
    return RuntimeModel(_interpreter(name, file, threads), card, plan, plans, compression, name,
                        threads)


def _read_and_filled(path, plan: str) -> tuple[MemoryFile, tuple]:
    """The flatbuffer, and the model's facts; the container's own arrays are gone on return."""
    container = read_container(path)
    plan = chosen_plan(path, container.graph, container.card, plan)
    facts = container.card, plan, tuple(container.graph), container.compression, str(path)
    return _filled(path, container.graph[plan], container.shared), facts


def _checked_threads(threads: int | None) -> int:
    if threads is None:
        return min(4, os.cpu_count() or 1)
    if threads < 1:
        raise InputError(f"--threads {threads}: must be at least 1")
    return threads


def chosen_plan(path: str | os.PathLike, graphs: Mapping[str, Graph], card: ModelCard,
                plan: str) -> str:
    """The plan to run.

    Raises:
        InputError: If the file has none, or not this one.
    """
    if not graphs:
        raise InputError(f"{path}: holds no graph to run without TensorFlow; compress it again "
                         "with --plans, or open it with cxcompress.models.load_model")
    if plan == AUTO:
        if card.recommended_plan is not None and card.recommended_plan in graphs:
            return card.recommended_plan
        return "float32" if "float32" in graphs else sorted(graphs)[0]
    if plan not in graphs:
        raise InputError(f"{path}: has no plan {plan!r}; it has {', '.join(sorted(graphs))}")
    return plan


def flatbuffer(path: str | os.PathLike, plan: str = AUTO) -> bytes:
    """The whole flatbuffer of a plan, which any LiteRT runs.

    Raises:
        InputError: As `load`.
    """
    container = read_container(path)
    graph = container.graph[chosen_plan(path, container.graph, container.card, plan)]
    return filled_graph(path, graph, container.shared)


def filled_graph(path: str | os.PathLike, graph: Graph, shared: SharedWeights,
                 threads: int | None = None) -> bytes:
    """The whole flatbuffer of a graph and its weights.

    Args:
        path: For messages.
        graph: Read from a file, so perhaps crafted.
        shared: The file's weights.
        threads: As for `filling.fill`.

    Raises:
        InputError: If the placement is not one, or does not fit the weights or the graph.
    """
    whole = bytearray(_checked_size(path, graph, shared))
    with _crafted(path):
        fill(graph, shared, whole, threads)
    return bytes(whole)


@contextmanager
def _crafted(path):
    """Placements that do not fit, as one line."""
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise InputError(f"{path}: its graph cannot be used ({error}); get the file again") \
            from error


def _checked_size(path, graph: Graph, shared: SharedWeights) -> int:
    """Bytes of the whole flatbuffer, checked before memory is taken."""
    weights = sum(kernel.indices.size for kernel in shared.kernels.values())
    weights += sum(array.size for array in shared.unshared.values())
    with _crafted(path):
        placed_kernels(graph, shared)
        size = int(graph.placement["bytes"])
        if size > LARGEST_GRAPH * weights + len(graph.flatbuffer):
            raise ValueError(f"{size} bytes for {weights} weights")
    return size


def _filled(path, graph: Graph, shared: SharedWeights) -> MemoryFile:
    """The whole flatbuffer as a file in memory: LiteRT maps files, and would copy bytes."""
    size = _checked_size(path, graph, shared)
    file = MemoryFile(size)
    try:
        with mmap.mmap(file.descriptor, size) as memory, _crafted(path):
            fill(graph, shared, memory)
    except BaseException:
        file.close()
        raise
    return file


def graph_interpreter(path: str | os.PathLike, plan: str, threads: int | None = None) -> Any:
    """LiteRT's interpreter of a plan, slower but with every tensor kept; None without that plan.

    Raises:
        InputError: As `load`.
    """
    threads = _checked_threads(threads)
    container = read_container(path)
    if plan not in container.graph:
        return None
    file = _filled(path, container.graph[plan], container.shared)
    return _interpreter(str(path), file, threads, keep_tensors=True)


def _interpreter(name: str, file: MemoryFile, threads: int, keep_tensors: bool = False):
    """An interpreter over the file, which is closed."""
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        options = {} if not keep_tensors else {
            "experimental_preserve_all_tensors": True,
            # The delegate runs many operators as one and keeps nothing between them.
            "experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
        with _quiet():
            interpreter = Interpreter(model_path=file.name, num_threads=threads, **options)
            interpreter.allocate_tensors()
    except ImportError as error:
        raise InputError("ai-edge-litert is not installed; run: pip install cxcompress") from error
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{name}: LiteRT refuses its graph ({str(error):.120})") from error
    finally:
        file.close()
    if len(interpreter.get_input_details()) != 1 or len(interpreter.get_output_details()) != 1:
        raise InputError(f"{name}: its graph has more than one input or output")
    return interpreter


@contextmanager
def _quiet():
    """Without the line on its delegate that LiteRT writes to file descriptor 2 itself."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class MemoryFile:
    """A file of `size` bytes that is gone when it is closed: anonymous where the system has such.

    What maps it keeps its content.
    """

    def __init__(self, size: int):
        self._path = None
        if hasattr(os, "memfd_create"):
            self.descriptor = os.memfd_create("cxcompress")
            self.name = f"/proc/self/fd/{self.descriptor}"
        else:
            self.descriptor, self.name = tempfile.mkstemp(suffix=".tflite")
            self._path = self.name
        os.ftruncate(self.descriptor, size)

    def close(self) -> None:
        """Give it back."""
        os.close(self.descriptor)
        if self._path is not None:
            try:
                os.unlink(self._path)
            except PermissionError:  # Windows, while it is mapped
                logger.debug("%s is left behind", self._path)


class RuntimeModel:
    """A compressed model that answers, made by `load`.

    Args:
        interpreter: LiteRT's, with its tensors allocated; batch of 1.
        card: The file's card.
        plan: The plan that runs.
        plans: All that the file holds.
        compression: E.g. `"uCWS"`.
        name: The file, for messages.
        threads: Of the interpreter.
    """

    def __init__(self, interpreter, card: ModelCard, plan: str, plans: Sequence[str],
                 compression: str, name: str, threads: int):
        self._interpreter = interpreter
        self._input = interpreter.get_input_details()[0]
        self._output = interpreter.get_output_details()[0]
        self.card, self.plan, self.plans = card, plan, tuple(plans)
        self.compression, self.name, self.threads = compression, name, threads

    @classmethod
    def of(cls, container: Container, graph: Graph, plan: str,
           threads: int | None = None) -> RuntimeModel:
        """A model that is not in a file yet.

        Args:
            container: Its weights and card.
            graph: One of its plans.
            plan: The name of this plan.
            threads: As for `load`.
        """
        threads = _checked_threads(threads)
        interpreter = _interpreter(plan, _filled(plan, graph, container.shared), threads)
        return cls(interpreter, container.card, plan, (plan,), container.compression, plan,
                   threads)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input, e.g. `(224, 224, 1)`."""
        return tuple(int(side) for side in self._input["shape"][1:])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of one output, e.g. `(14,)`."""
        return tuple(int(side) for side in self._output["shape"][1:])

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the outputs; empty where unknown."""
        return self.card.classes

    def predict(self, inputs: ArrayLike) -> NDArray[np.float32]:
        """The model's outputs.

        Args:
            inputs: `(n, *input_shape)`, as the Keras model takes them; any n.

        Returns:
            float32 `(n, *output_shape)`.

        Raises:
            InputError: If the shape is another, a value is not finite, or the graph fails.
        """
        inputs = np.asarray(inputs, self._input["dtype"])
        if inputs.shape[1:] != self.input_shape or inputs.ndim != len(self.input_shape) + 1:
            raise InputError(f"{self.name}: takes inputs of shape (n, "
                             f"{', '.join(map(str, self.input_shape))}). Received: {inputs.shape}")
        if not np.isfinite(inputs).all():
            raise InputError(f"{self.name}: the inputs hold NaN or infinite values")
        outputs = np.empty((len(inputs), *self.output_shape), np.float32)
        for row, one in enumerate(inputs):
            self._interpreter.set_tensor(self._input["index"], one[None])
            try:
                self._interpreter.invoke()
            except RuntimeError as error:
                raise InputError(f"{self.name}: LiteRT cannot run its graph ({str(error):.120}); "
                                 "get the file again") from error
            outputs[row] = self._interpreter.get_tensor(self._output["index"])[0]
        return outputs

    def preprocessing(self) -> Preprocessing:
        """From a picture to an input, as the card says.

        Raises:
            InputError: If the card says nothing, or not of this model's input.
        """
        from cxcompress.images import Preprocessing

        if not self.card.preprocessing:
            raise InputError(f"{self.name}: its card does not say how pictures become inputs; "
                             "compress it again with --data_path or --preprocessing")
        found = Preprocessing.from_dict(self.card.preprocessing)
        if (*found.size, found.channels) != self.input_shape:
            raise InputError(f"{self.name}: its card says inputs of {(*found.size, found.channels)}"
                             f", its graph takes {self.input_shape}")
        return found

    def inputs_of(self, images: Sequence) -> NDArray[np.float32]:
        """Inputs of pictures, float32 `(n, *input_shape)`; `images` as for `predict_images`.

        Raises:
            InputError: If a picture cannot be read, or the card does not say how.
        """
        preprocessing = self.preprocessing()
        return np.concatenate([
            preprocessing.batch([_pixels(image, preprocessing.channels)]) for image in images])

    def predict_images(
        self, images: Sequence, microns_per_pixel: float | None = None
    ) -> Findings | list[NDArray[np.float64]]:
        """What the model finds in pictures.

        Args:
            images: File names (PNG, JPEG, BMP, TIFF, DICOM), Pillow images, or uint8 or uint16
                arrays `(h, w)` or `(h, w, 3)`.
            microns_per_pixel: Of fields of nuclei, where it is known: they are looked at in
                tiles at the scale that the model was trained at, whatever their size. Without
                it each picture is taken as one field of the size that the model was trained on.

        Returns:
            `Findings` of all images; for nuclei a list of cells an image, float `(cells, 3)`:
            x and y in pixels of the picture given, label_id.

        Raises:
            InputError: If a picture cannot be read, or the card does not say what the outputs are.
            MissingExtra: If nuclei are asked for without scikit-image.
        """
        from cxcompress import tasks

        if not self.card.task or not self.classes:
            raise InputError(f"{self.name}: its card does not name the task and the classes; "
                             "compress it again with --data_path, or use predict(inputs)")
        preprocessing = self.preprocessing()
        task = tasks.get(self.card.task, self.classes, self.card.from_logits)
        if self.card.task == "nuclei" and microns_per_pixel is not None:
            return self._cells_at_scale(images, microns_per_pixel, preprocessing, task)
        outputs: list[NDArray[np.float32]] = []
        factors: list[tuple[float, float, float]] = []
        for image in images:
            image = _pixels(image, preprocessing.channels)
            factors.append((image.shape[1] / self.input_shape[1],
                            image.shape[0] / self.input_shape[0], 1.0))
            outputs.append(self.predict(preprocessing.batch([image])))
        every = np.concatenate(outputs) if outputs else np.empty((0, *self.output_shape))
        if self.card.task == "nuclei":
            found: Any = task.findings(every, self.card.thresholds)
            return [cells * factor for cells, factor in zip(found, factors, strict=True)]
        if self.card.task == "multilabel" and self.card.thresholds:
            return task.findings(every, self.card.thresholds)
        return task.findings(every)

    def _cells_at_scale(self, images: Sequence, microns_per_pixel: float,
                        preprocessing: Preprocessing, task) -> list[NDArray[np.float64]]:
        from cxcompress.tasks.whole_fields import cells_of_field, network_scale

        if preprocessing.microns_per_pixel is None:
            raise InputError(f"{self.name}: its card does not say at which scale it was trained; "
                             "leave the microns per pixel out")
        scale = network_scale(microns_per_pixel, preprocessing.microns_per_pixel)
        return [cells_of_field(_pixels(image, preprocessing.channels), self.predict, preprocessing,
                               task, self.card.thresholds, scale) for image in images]

    def info(self) -> dict[str, Any]:
        """Facts: file, plans, input, card."""
        return {"file": self.name, "compression": self.compression, "plan": self.plan,
                "plans": list(self.plans), "threads": self.threads,
                "input_shape": list(self.input_shape), "output_shape": list(self.output_shape),
                "card": self.card.to_dict()}


def _pixels(image, channels: int) -> NDArray:
    """A file, a Pillow image or an array as an array."""
    from cxcompress.images.reading import pixels

    if isinstance(image, str | os.PathLike):
        return _read(image, channels)
    return image if isinstance(image, np.ndarray) else pixels(image)


def _read(path: str | os.PathLike, channels: int) -> NDArray:
    from cxcompress.images import read_image
    from cxcompress.images.reading import DICOM_SUFFIXES

    if Path(path).suffix.lower() in DICOM_SUFFIXES:
        try:
            from cxcompress.images.dicom import read_dicom
        except ImportError as error:
            raise MissingExtra("pydicom", "dicom") from error
        image = read_dicom(path)
    else:
        image = read_image(path)
    if image.ndim == 3 and channels == 1 and (image != image[..., :1]).any():
        logger.info("%s: in colour; its luminance is used, since the model takes grey", path)
    if image.ndim == 2 and channels == 3:
        logger.info("%s: grey; copied to three channels, since the model takes colour", path)
    return image
