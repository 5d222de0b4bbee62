"""Augmentation: another view of a radiograph, moved, turned and exposed a little differently.

    augmentation = Augmentation(shift=0.08, rotation=8, contrast=0.3)
    inputs = augmentation(inputs, np.random.default_rng((seed, epoch, batch)))

Works on a whole batch at once: one affine map an image, sampled bilinearly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Augmentation:
    """Random changes, each drawn evenly from −x … +x for every image.

    Args:
        shift: Of the side, down and across.
        rotation: Degrees.
        zoom: Of the size.
        contrast: Of the distance of the pixels from the image's mean.
        brightness: Of the image's range of values.
        gamma: Of the logarithm of the exponent applied to the image's range.
        flip: Not a reach but the chance that an image is mirrored, left for right. Mirrored hearts
            lie on the right: findings that have a side lose it.

    Raises:
        ValueError: If a value is negative, zoom or contrast is 1 or more, or flip is above 1.
    """

    shift: float = 0.08
    rotation: float = 8.0
    zoom: float = 0.1
    contrast: float = 0.3
    brightness: float = 0.15
    gamma: float = 0.3
    flip: float = 0.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 0 or (name in ("zoom", "contrast") and value >= 1) or (
                    name == "flip" and value > 1):
                raise ValueError(f"{name} must not be negative, zoom and contrast be below 1, flip "
                                 f"at most 1. Received: {name}={value}")

    @classmethod
    def turned(cls, rotation: float, flip: float = 0.5) -> Augmentation:
        """Rotation and mirroring alone, as chest X-ray studies have it: ±15° (PruneCXR), ±20°
        without mirroring (MedImaging)."""
        return cls(shift=0, rotation=rotation, zoom=0, contrast=0, brightness=0, gamma=0, flip=flip)

    def __call__(self, inputs: NDArray, random: np.random.Generator) -> NDArray[np.float32]:
        """Another view of every image.

        Args:
            inputs: float `(n, h, w, c)`.
            random: Where the changes are drawn from.

        Returns:
            float32 `(n, h, w, c)`; what comes from outside repeats the edge.
        """
        def draw(most: float) -> NDArray:
            return random.uniform(-most, most, (len(inputs), 1, 1, 1))

        if self.flip:
            mirrored = random.random(len(inputs)) < self.flip
            inputs = np.where(mirrored[:, None, None, None], inputs[:, :, ::-1], inputs)
        moved = self._moved(inputs, *(draw(most)[:, 0, 0] for most in (
            self.shift, self.shift, np.deg2rad(self.rotation), self.zoom)))
        low, high = (reach(moved, axis=(1, 2, 3), keepdims=True) for reach in (np.min, np.max))
        span = np.maximum(high - low, 1e-6)
        moved = low + span * ((moved - low) / span) ** np.exp(draw(self.gamma))
        mean = moved.mean(axis=(1, 2, 3), keepdims=True)
        moved = mean + (moved - mean) * (1 + draw(self.contrast)) + span * draw(self.brightness)
        return moved.astype(np.float32)

    @staticmethod
    def _moved(inputs, down, across, angle, zoom) -> NDArray:
        n, height, width, _ = inputs.shape
        y, x = np.meshgrid(*(np.arange(side) - (side - 1) / 2 for side in (height, width)),
                           indexing="ij")
        y, x = y.reshape(1, -1), x.reshape(1, -1)
        scale = 1 + zoom
        rows = scale * (np.cos(angle) * y - np.sin(angle) * x) + (height - 1) / 2 + down * height
        columns = (scale * (np.sin(angle) * y + np.cos(angle) * x) + (width - 1) / 2
                   + across * width)
        rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
        top, left = (np.floor(places).astype(np.intp) for places in (rows, columns))
        bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
        low, near = (rows - top)[..., None], (columns - left)[..., None]
        image = np.arange(n)[:, None]
        above = inputs[image, top, left] * (1 - near) + inputs[image, top, right] * near
        below = inputs[image, bottom, left] * (1 - near) + inputs[image, bottom, right] * near
        return (above * (1 - low) + below * low).reshape(inputs.shape)
