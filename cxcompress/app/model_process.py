"""A compressed file and everybody's pictures in a process of their own, with limits.

    model = ModelProcess(Path("model-uCWS.h5").read_bytes(), "model-uCWS.h5")
    model.about["card"], model.about["memory_bytes"]
    answer = model.answer("chest.png", content, map_column=3)
    answer.findings, answer.pixels, answer.map, answer.seconds

Containers, images and DICOM files come from outside, and LiteRT and the decoders are written in C.
The page never parses them: a child process does, under a memory and a time limit. If it crashes or
hangs, one line says so and the next question starts a new one. Parent and child exchange JSON and
`.npy` arrays over pipes (never pickles); nothing is written to disk.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cxcompress.errors import InputError

ANSWER_SECONDS = 60
START_SECONDS = 120
SHOWN_PIXELS = 1024
"""Longest side of a picture that is sent back to be shown."""
MOST_MEMORY = 4 * 2**30
_FRAME = struct.Struct("<QQ")
_MOST_FRAME = 1 << 30


@dataclass(frozen=True)
class Answer:
    """What a model says of one picture.

    Args:
        findings: For classifiers `{"scores": (c,), "decisions": (c,)}`, for nuclei
            `{"cells": (cells, 3)}`: x, y in pixels of the picture, label_id.
        pixels: uint8 `(h, w)` or `(h, w, 3)`, at most 1,024 pixels a side.
        size: Height and width of the picture as it came.
        map: float32 `(h, w)`: where the class asked for is seen, or None.
        map_kind: `"activation"` (exact contributions) or `"occlusion"`, or empty.
        seconds: From pixels to findings.
    """

    findings: dict[str, NDArray]
    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    map: NDArray[np.float32] | None
    map_kind: str
    seconds: float


class ModelProcess:
    """A model that runs in a child process; safe to share between threads.

    Args:
        container: The file's bytes.
        name: For messages.
        plan: As for `cxcompress.runtime.load`.
        threads: Of the interpreter.

    After construction: `about`: `card`, `plan`, `plans`, `compression`, `input_shape`,
    `load_seconds`, `memory_bytes`.

    Raises:
        InputError: If the file cannot be used.
    """

    def __init__(self, container: bytes, name: str, plan: str = "auto",
                 threads: int | None = None):
        self._container, self._start = container, {"name": name, "plan": plan, "threads": threads}
        self.name = name
        self._lock = threading.Lock()
        self._child: subprocess.Popen | None = None
        self.about: dict[str, Any] = {}
        with self._lock:
            self._begin()

    def answer(
        self, name: str, content: bytes, map_column: int | None = None,
        microns_per_pixel: float | None = None,
    ) -> Answer:
        """Read a picture and answer.

        Args:
            name: The picture's, for messages; its suffix does not matter.
            content: PNG, JPEG, BMP, TIFF or DICOM.
            map_column: Class of which a map is wanted; classifiers only.
            microns_per_pixel: Of fields of nuclei, where it is known.

        Raises:
            InputError: If the picture cannot be used, or reading it broke the process.
        """
        with self._lock:
            if self._child is None:
                self._begin()
            reply, arrays = self._ask(
                {"name": name, "map_column": map_column, "microns_per_pixel": microns_per_pixel},
                content, ANSWER_SECONDS, name)
        self.about["memory_bytes"] = reply["memory_bytes"]
        return Answer(
            {key.removeprefix("finding_"): value
                                for key, value in arrays.items() if key.startswith("finding_")},
            arrays["pixels"], tuple(reply["size"]), arrays.get("map"), reply["map_kind"],
            reply["seconds"])

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def __del__(self):
        with contextlib.suppress(Exception):
            self._end()

    def _begin(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "cxcompress.app.model_process"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        reply, _ = self._ask(self._start, self._container, START_SECONDS, self.name)
        self.about = reply

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                with contextlib.suppress(OSError):  # what was not read yet is lost
                    pipe.close()

    def _ask(self, question: dict, payload: bytes, seconds: float, subject: str):
        """Reply and arrays; InputError for what the child refuses, or if it is lost."""
        child = self._child
        late = threading.Event()

        def stop() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            _send(child.stdin, question, payload)
            reply, body = _receive(child.stdout)
            arrays = _arrays(body)
        except (OSError, EOFError, ValueError) as error:
            self._end()
            why = (f"took more than {seconds:g} s" if late.is_set()
                   else "broke the process that read it")
            raise InputError(f"{subject}: {why}; the file is damaged, or not what its name says") \
                from error
        finally:
            timer.cancel()
        if "error" in reply:
            if question is self._start:
                self._end()
            raise InputError(reply["error"])
        return reply, arrays


def _send(pipe: BinaryIO, said: dict, payload: bytes = b"") -> None:
    text = json.dumps(said).encode()
    pipe.write(_FRAME.pack(len(text), len(payload)) + text)
    pipe.write(payload)
    pipe.flush()


def _receive(pipe: BinaryIO) -> tuple[dict, bytes]:
    lengths = _FRAME.unpack(_exactly(pipe, _FRAME.size))
    if max(lengths) > _MOST_FRAME:
        raise ValueError("a frame that is too long")
    text, payload = (_exactly(pipe, length) for length in lengths)
    return json.loads(text), payload


def _exactly(pipe: BinaryIO, length: int) -> bytes:
    found = pipe.read(length)
    if len(found) != length:
        raise EOFError
    return found


def _bytes_of(arrays: dict[str, NDArray]) -> bytes:
    image = io.BytesIO()
    np.savez(image, **arrays)
    return image.getvalue()


def _arrays(body: bytes) -> dict[str, NDArray]:
    if not body:
        return {}
    with np.load(io.BytesIO(body), allow_pickle=False) as file:
        return dict(file)


# What follows runs in the child.

class _Served:
    """The model in the child, and its maps once they are asked for."""

    def __init__(self, question: dict, container: bytes):
        from cxcompress import runtime

        self.file = _in_memory(container)
        began = time.perf_counter()
        try:
            self.model = runtime.load(self.file.name, question["plan"], question["threads"])
        except InputError as error:
            raise InputError(str(error).replace(self.file.name, question["name"])) from None
        self.model.name = question["name"]
        if not self.model.card.task or not self.model.classes:
            raise InputError(f"{question['name']}: its card does not name the task and the "
                             "classes; compress it again with --data_path")
        # The first answer is slower than all others; it is given before anybody waits for it.
        self.model.predict_images([np.zeros((64, 64), np.uint8)])
        self.load_seconds = time.perf_counter() - began
        self.maps: Any = None
        self.maps_known = False

    def about(self) -> dict[str, Any]:
        return self.model.info() | {"load_seconds": self.load_seconds,
                                    "memory_bytes": _memory_bytes()}

    def answer(self, question: dict, content: bytes) -> tuple[dict, dict[str, NDArray]]:
        model, name = self.model, question["name"]
        pixels = _decoded(name, content)
        arrays, kind = {"pixels": _shown(pixels)}, ""
        began = time.perf_counter()
        if model.card.task == "nuclei":
            arrays["finding_cells"] = model.predict_images(
                [pixels], question["microns_per_pixel"])[0]
        else:
            found = model.predict_images([pixels])
            arrays |= {"finding_scores": found.scores[0], "finding_decisions": found.decisions[0]}
        seconds = time.perf_counter() - began
        if model.card.task != "nuclei" and question["map_column"] is not None:
            arrays["map"], kind = self._map(model.inputs_of([pixels]), question["map_column"])
        return {"size": pixels.shape[:2], "seconds": seconds, "map_kind": kind,
                "memory_bytes": _memory_bytes()}, arrays

    def _map(self, inputs: NDArray, column: int) -> tuple[NDArray, str]:
        from cxcompress.runtime.activation_maps import activation_maps, occlusion_map

        if not self.maps_known:
            self.maps, self.maps_known = activation_maps(self.file.name), True
        if self.maps is not None:
            maps = self.maps.of(inputs)[0]
            if self.model.card.task == "multiclass" and maps.shape[-1] > 1:
                # What speaks for this class beside the others: softmax sees differences only.
                maps = maps - maps.mean(axis=-1, keepdims=True)
            return maps[..., column], "activation"
        return occlusion_map(self.model, inputs[0], column), "occlusion"


def _in_memory(content: bytes):
    from cxcompress.runtime.running import MemoryFile

    file = MemoryFile(len(content))
    view = memoryview(content)
    while view:
        view = view[os.write(file.descriptor, view):]
    return file


def _decoded(name: str, content: bytes) -> NDArray:
    """The pixels of an upload; messages name the upload, not where it lies in memory."""
    from cxcompress.images import read_image

    if content[128:132] == b"DICM":
        try:
            from cxcompress.images.dicom import read_dicom
        except ImportError as error:
            raise InputError(f"{name}: a DICOM file; pip install 'cxcompress[dicom]'") from error
        file = _in_memory(content)
        try:
            return read_dicom(file.name)
        except InputError as error:
            raise InputError(str(error).replace(file.name, name)) from None
        finally:
            file.close()
    image = io.BytesIO(content)
    image.name = name
    return read_image(image)


def _shown(pixels: NDArray) -> NDArray[np.uint8]:
    from PIL import Image

    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    picture = Image.fromarray(pixels)
    picture.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS))
    return np.asarray(picture)


def _memory_bytes() -> int:
    """Resident memory of this process now, 0 where the system does not say."""
    try:
        with open("/proc/self/status") as status:
            return next(1024 * int(line.split()[1]) for line in status
                        if line.startswith("VmRSS:"))
    except (OSError, StopIteration):
        return 0


def _serve() -> None:
    """Answer questions until the pipe closes."""
    from cxcompress.runtime.limits import limit_memory

    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not run into the replies
    questions = sys.stdin.buffer
    limit_memory(MOST_MEMORY)
    served = None
    while True:
        try:
            question, payload = _receive(questions)
        except EOFError:
            return
        try:
            if served is None:
                served = _Served(question, payload)
                _send(replies, served.about())
            else:
                reply, arrays = served.answer(question, payload)
                _send(replies, reply, _bytes_of(arrays))
        except InputError as error:
            _send(replies, {"error": str(error)})
        except MemoryError:
            _send(replies, {"error": f"{question['name']}: takes more memory than "
                                     f"{MOST_MEMORY >> 30} GiB"})


if __name__ == "__main__":
    _serve()
