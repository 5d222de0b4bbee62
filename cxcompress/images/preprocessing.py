"""`Preprocessing`: from a picture of any size and depth to what a model was trained on.

    preprocessing = Preprocessing.preset("imagenet", size=(224, 224), channels=3)
    inputs = preprocessing(image)              # float32 (224, 224, 3)
    inputs = preprocessing.batch(images)       # float32 (n, 224, 224, 3), the same bits

Training, runtime and app all call this one implementation; `to_dict` goes into a model's card.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxcompress.errors import InputError
from cxcompress.images.reading import pixels

RESIZE_METHODS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}
"""Resize methods by name. All but `nearest` average over the pixels that fall together when a
picture shrinks (antialias)."""

PRESETS = ("0-1", "-1-1", "imagenet", "xrv", "none")
"""Names that `Preprocessing.preset` knows."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601), as Pillow's mode L has them."""


@dataclass(frozen=True)
class Preprocessing:
    """What happens to a picture before a model sees it.

    Channels are matched first (grey is copied to three, RGB becomes luminance), then the picture
    is resized without keeping its aspect, in float32; then black becomes `value_range[0]`, white
    `value_range[1]` (white is 255 in uint8, 65535 in uint16), and last `(x - mean) / std`.

    Args:
        size: Height and width of the model's input.
        channels: 1 or 3 (RGB order).
        value_range: What black and white become before normalisation.
        mean: One number, or one per channel.
        std: One number, or one per channel; positive.
        resize: A key of `RESIZE_METHODS`.
        microns_per_pixel: Resolution of the slides that the model was trained on, at the size of
            its input; None for radiographs. `__call__` does not use it; fields of a known scale
            are resized to it (`tasks/whole_fields.py`).

    Raises:
        ValueError: If a value is impossible.
    """

    size: tuple[int, int]
    channels: int
    value_range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: str = "bilinear"
    microns_per_pixel: float | None = None

    def __post_init__(self):
        set_field = object.__setattr__
        set_field(self, "size", tuple(int(side) for side in self.size))
        set_field(self, "channels", int(self.channels))
        for name in ("value_range", "mean", "std"):
            set_field(self, name, tuple(float(value) for value in getattr(self, name)))
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size is (height, width), both positive. Received: {self.size}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels is 1 or 3. Received: {self.channels}")
        if len(self.value_range) != 2 or not np.isfinite(self.value_range).all():
            raise ValueError(f"value_range is two finite numbers. Received: {self.value_range}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (1, self.channels) or not np.isfinite(values).all():
                raise ValueError(f"{name} is one finite number or one per channel. "
                                 f"Received: {values}")
        if min(self.std) <= 0:
            raise ValueError(f"std is positive. Received: {self.std}")
        if self.resize not in RESIZE_METHODS:
            raise ValueError(f"resize is one of {', '.join(RESIZE_METHODS)}. "
                             f"Received: {self.resize!r}")

    @classmethod
    def preset(cls, name: str, size: int | tuple[int, int], channels: int = 1,
               resize: str = "bilinear") -> Preprocessing:
        """A preprocessing by name.

        Args:
            name: `"0-1"` and `"-1-1"`: that range; `"imagenet"`: 0 to 1, then ImageNet's mean
                and deviation (of the mean channel, where the model has one); `"xrv"`: -1024 to
                1024, as torchxrayvision's models want it; `"none"`: 0 to 255.
            size: Height and width, or one number for both.
            channels: 1 or 3.
            resize: A key of `RESIZE_METHODS`.

        Raises:
            InputError: If the name is unknown.
        """
        size = (size, size) if isinstance(size, int | np.integer) else size
        ranges = {"0-1": (0, 1), "-1-1": (-1, 1), "xrv": (-1024, 1024), "none": (0, 255)}
        if name in ranges:
            return cls(size, channels, ranges[name], resize=resize)
        if name == "imagenet":
            mean: tuple[float, ...] = IMAGENET_MEAN
            std: tuple[float, ...] = IMAGENET_STD
            if channels == 1:
                mean, std = (float(np.mean(mean)),), (float(np.mean(std)),)
            return cls(size, channels, (0, 1), mean, std, resize)
        raise InputError(f"preprocessing {name!r} is unknown; choose from {', '.join(PRESETS)}")

    def __call__(self, image: NDArray | Image.Image) -> NDArray[np.float32]:
        """One picture as the model's input.

        Args:
            image: uint8 or uint16 array `(h, w)`, `(h, w, 1)` or `(h, w, 3)`, or a Pillow image.

        Returns:
            float32 `(*size, channels)`.

        Raises:
            ValueError: If the array has another shape or type.
        """
        image = pixels(image) if isinstance(image, Image.Image) else np.asarray(image)
        if image.ndim == 2:
            image = image[..., None]
        if image.ndim != 3 or image.shape[-1] not in (1, 3) or 0 in image.shape:
            raise ValueError(f"an image is (h, w), (h, w, 1) or (h, w, 3). Received: {image.shape}")
        values, white = self._match_channels(image)
        if values.shape[:2] != self.size:
            values = self._resized(values, white)
        return self._scaled(values, white)

    def batch(self, images: Sequence | NDArray) -> NDArray[np.float32]:
        """Several pictures as one input `(n, *size, channels)`: bit for bit what `__call__` gives.

        Args:
            images: A sequence of pictures (sizes may differ), or one array `(n, h, w)` or
                `(n, h, w, c)`; arrays of the right size take a path without a loop.

        Raises:
            ValueError: If an image has another shape or type.
        """
        if isinstance(images, np.ndarray) and images.shape[1:3] == self.size and (
                images.ndim == 3 or images.ndim == 4 and images.shape[-1] in (1, 3)):
            return self._scaled(*self._match_channels(images if images.ndim == 4
                                                      else images[..., None]))
        inputs = np.empty((len(images), *self.size, self.channels), np.float32)
        for row, image in enumerate(images):
            inputs[row] = self(image)
        return inputs

    def region(self, image: NDArray, box: tuple[float, float, float, float],
               size: tuple[int, int]) -> NDArray[np.float32]:
        """A part of a picture as input: what resizing the whole picture would give there.

        Args:
            image: uint8 or uint16 `(h, w)`, `(h, w, 1)` or `(h, w, 3)`.
            box: Left, top, right and bottom in pixels of the picture, within it.
            size: Height and width of the result.

        Returns:
            float32 `(*size, channels)`.
        """
        if image.ndim == 2:
            image = image[..., None]
        left, top, right, bottom = box
        # The filter reaches this far beyond the box; only those pixels are converted.
        reach = 2 + math.ceil(2 * max(1, (right - left) / size[1], (bottom - top) / size[0]))
        first = max(0, math.floor(left) - reach), max(0, math.floor(top) - reach)
        cut = image[first[1]:math.ceil(bottom) + reach, first[0]:math.ceil(right) + reach]
        values, white = self._match_channels(cut)
        inside = (left - first[0], top - first[1], right - first[0], bottom - first[1])
        return self._scaled(self._resized(values, white, size, inside), white)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        return {key: list(value) if isinstance(value, tuple) else value
                for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `to_dict`.

        Raises:
            InputError: If a value is missing, unknown or impossible.
        """
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise InputError(f"preprocessing cannot be read: {error}") from error

    def _match_channels(self, image: NDArray) -> tuple[NDArray[np.float32], float]:
        """Float32 `(…, channels or 1)`, and what white is; one grey channel stays one here."""
        if image.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"an image is uint8 or uint16. Received: {image.dtype}")
        white = 255.0 if image.dtype == np.uint8 else 65535.0
        if image.shape[-1] == 3 and self.channels == 1:
            red, green, blue = (image[..., c].astype(np.float32) * np.float32(LUMINANCE[c])
                                for c in range(3))
            return (red + green + blue)[..., None], white
        return image.astype(np.float32), white

    def _resized(
        self, values: NDArray, white: float, size: tuple[int, int] | None = None,
        box: tuple[float, float, float, float] | None = None,
    ) -> NDArray[np.float32]:
        height, width = size or self.size
        method = RESIZE_METHODS[self.resize]
        channels = [np.asarray(Image.fromarray(np.ascontiguousarray(values[..., c])).resize(
            (width, height), method, box)) for c in range(values.shape[-1])]
        # Bicubic overshoots beside sharp edges.
        return np.clip(np.stack(channels, -1), 0, white)

    def _scaled(self, values: NDArray, white: float) -> NDArray[np.float32]:
        low, high = self.value_range
        values = np.asarray(values / np.float32(white))
        values *= np.float32(high - low)
        values += np.float32(low)
        if values.shape[-1] != self.channels:
            values = np.repeat(values, self.channels, axis=-1)
        values -= np.asarray(self.mean, np.float32)
        values /= np.asarray(self.std, np.float32)
        return values
