"""Augmentation: another view of a radiograph, moved, turned and exposed a little differently.

    augmentation = Augmentation(shift=0.08, rotation=8, contrast=0.3)
    inputs = augmentation(inputs, np.random.default_rng((seed, epoch, batch)))

One affine map an image, sampled bilinearly by Pillow, which lets other threads work meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


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
        moved = self._moved(inputs, *(draw(most)[:, 0, 0, 0] for most in (
            self.shift, self.shift, np.deg2rad(self.rotation), self.zoom)))
        if not (self.gamma or self.contrast or self.brightness):
            return moved
        low, high = (reach(moved, axis=(1, 2, 3), keepdims=True) for reach in (np.min, np.max))
        span = np.maximum(high - low, 1e-6)
        moved = low + span * ((moved - low) / span) ** np.exp(draw(self.gamma))
        mean = moved.mean(axis=(1, 2, 3), keepdims=True)
        moved = mean + (moved - mean) * (1 + draw(self.contrast)) + span * draw(self.brightness)
        return moved.astype(np.float32)

    def _moved(self, inputs, down, across, angle, zoom) -> NDArray[np.float32]:
        if not (self.shift or self.rotation or self.zoom):
            return np.array(inputs, np.float32)
        moved = np.empty(inputs.shape, np.float32)
        for row, image in enumerate(np.asarray(inputs, np.float32)):
            turn = (1 + zoom[row]) * np.array([[np.cos(angle[row]), -np.sin(angle[row])],
                                               [np.sin(angle[row]), np.cos(angle[row])]])
            moved[row] = _sampled(image, turn, np.array([down[row], across[row]]))
        return moved


def _sampled(image: NDArray[np.float32], turn: NDArray, shift: NDArray) -> NDArray[np.float32]:
    """An image seen through an affine map about its middle, bilinearly; the edge is repeated.

    Args:
        image: `(h, w, c)`.
        turn: `(2, 2)`, from rows and columns of the result to those of the image.
        shift: Down and across, of the sides.
    """
    sides = np.array(image.shape[:2])
    middle = (sides - 1) / 2
    start = middle + shift * sides - turn @ middle
    corners = start + np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) * (sides - 1) @ turn.T
    outside = max(-corners.min(), (corners - (sides - 1)).max(), 0)
    pad = int(np.ceil(outside)) + 1
    # Pillow's affine map goes from the middle of one pixel to that of another, x before y.
    a, b, d, e = turn[1, 1], turn[1, 0], turn[0, 1], turn[0, 0]
    data = (a, b, start[1] + pad + 0.5 - (a + b) / 2, d, e, start[0] + pad + 0.5 - (d + e) / 2)
    height, width = map(int, sides)
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    return np.stack([
        np.asarray(Image.fromarray(np.ascontiguousarray(padded[..., channel])).transform(
            (width, height), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR))
        for channel in range(image.shape[-1])], axis=-1)
