"""Drawing of one chest-radiograph phantom: anatomy, findings and exposure in, grey pixels out.

The picture is built as a radiograph is: a map of attenuation (soft tissue, minus air in the
lungs, plus bone, plus metal) goes through scatter, a film curve and quantum noise. Findings
change the anatomy (a larger heart, a flatter diaphragm) or the air in the lungs (fluid, masses,
a collapsed lung), so their shadows overlap with ribs and vessels as true ones do.

    anatomy = Anatomy.draw(np.random.default_rng(1))
    view = View.draw(np.random.default_rng(2))
    image = draw_radiograph(anatomy, view, {"Effusion": Lesion(0.8, seed=3)}, size=256)

Coordinates: x from -1 (image left, the patient's right) to 1, y from -1 (top) to 1, in the frame
of the upright patient; `View` places that frame on the film. All geometry is drawn from seeds
that do not depend on the size, so one radiograph can be drawn at any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Field = NDArray[np.float32]

REGION_SHARE = 0.2
"""Of the largest change that a finding makes: what changes less is not its region."""


@dataclass(frozen=True)
class Lesion:
    """How a finding looks in one radiograph.

    Args:
        severity: 0 (barely visible) to 1 (textbook).
        seed: Places the finding; the same in every radiograph of one patient.
    """

    severity: float
    seed: int | tuple[int, ...]


@dataclass(frozen=True)
class Anatomy:
    """What stays the same in every radiograph of a patient; lengths in frame units."""

    habitus: float
    half_width: float
    barrel: float
    apex: float
    dome_right: float
    dome_left: float
    dome_drop: float
    heart: float
    knob: float
    breasts: float
    breast_y: float
    rib_spacing: float
    rib_phase: float
    rib_density: float
    clavicle_y: float
    clavicle_slope: float
    scoliosis: float
    bone: float
    stomach_gas: float
    vessels_seed: int
    device: str
    device_seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Anatomy:
        """A random adult."""
        habitus = float(rng.beta(2, 3))
        female = rng.random() < 0.45
        return cls(
            habitus=habitus,
            half_width=float(rng.normal(0.73, 0.03) - 0.03 * female),
            barrel=float(rng.uniform(0.38, 0.54)),
            apex=float(rng.normal(-0.80, 0.03)),
            dome_right=float(rng.normal(0.40, 0.05) - 0.08 * habitus),
            dome_left=float(rng.normal(0.46, 0.05) - 0.08 * habitus),
            dome_drop=float(np.clip(rng.normal(0.24, 0.035), 0.14, 0.32)),
            heart=float(np.clip(rng.normal(0.435, 0.025), 0.37, 0.49)),
            knob=float(np.clip(rng.normal(0.5, 0.22), 0.05, 1.0)),
            breasts=float(female * rng.uniform(0.35, 1.0)),
            breast_y=float(rng.normal(0.22, 0.07)),
            rib_spacing=float(rng.normal(0.128, 0.008)),
            rib_phase=float(rng.uniform(0, 1)),
            rib_density=float(rng.uniform(0.6, 1.25)),
            clavicle_y=float(rng.normal(-0.62, 0.04)),
            clavicle_slope=float(rng.normal(0.22, 0.07)),
            scoliosis=float(rng.normal(0, 0.018)),
            bone=float(rng.uniform(0.7, 1.2)),
            stomach_gas=float(rng.uniform(0, 1)),
            vessels_seed=int(rng.integers(2**31)),
            device=str(rng.choice(("", "pacemaker", "line", "tube", "leads"),
                                  p=(0.74, 0.05, 0.10, 0.04, 0.07))),
            device_seed=int(rng.integers(2**31)),
        )


@dataclass(frozen=True)
class View:
    """How one radiograph was taken: position, breath, exposure."""

    zoom: float
    shift: tuple[float, float]
    tilt: float
    rotation: float
    inspiration: float
    portable: bool
    brightness: float
    contrast: float
    noise: float
    collimation: tuple[float, float, float, float]
    marker: tuple[float, float, float]
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> View:
        """A random exposure; about a third are portable (anteroposterior) ones."""
        portable = bool(rng.random() < 0.35)
        spread = 1.6 if portable else 1.0
        margins = np.where(rng.random(4) < 0.15, rng.uniform(0.02, 0.09, 4), -1.0)
        return cls(
            zoom=float(rng.normal(1.02, 0.05 * spread)),
            shift=(float(rng.normal(0, 0.035 * spread)), float(rng.normal(0.0, 0.05 * spread))),
            tilt=float(rng.normal(0, 0.02 * spread)),
            rotation=float(rng.normal(0, 0.016 * spread)),
            inspiration=float(rng.normal(-0.3 * portable, 0.35)),
            portable=portable,
            brightness=float(rng.normal(0, 0.065 * spread)),
            contrast=float(np.exp(rng.normal(-0.16 * portable, 0.15))),
            noise=float(rng.uniform(0.006, 0.02) * spread),
            collimation=tuple(float(margin) for margin in margins),
            marker=(float(rng.choice((-1, 1))), float(rng.uniform(-0.9, -0.5)),
                    float(rng.random() < 0.8)),
            seed=int(rng.integers(2**31)),
        )


@dataclass
class Scene:
    """Everything that a finding may change before the film is exposed.

    `opacity` is the fraction of the lung's air that is replaced (0 air, 1 solid), `added` is
    attenuation laid on top (negative: air outside the lungs). Geometry is plain numbers, changed
    by findings before any pixel is computed.
    """

    anatomy: Anatomy
    view: View
    size: int
    # Geometry, changed by findings first.
    heart: float = 0.0
    knob: float = 0.0
    descending_aorta: float = 0.0
    ascending_aorta: float = 0.0
    midline_shift: float = 0.0
    dome: tuple[float, float] = (0.0, 0.0)
    dome_drop: float = 0.0
    lung_air: float = 1.0
    vessel_gain: float = 1.0
    # Fields, set by `outline` and changed by findings afterwards.
    x: Field = None
    y: Field = None
    pixel: float = 0.0
    left: Field = None
    lateral: Field = None
    wall: Field = None
    depth_below_apex: Field = None
    diaphragm: Field = None
    body: Field = None
    lung: Field = None
    silhouette: Field = None
    opacity: Field = None
    vessel_mask: Field = None
    added: Field = None

    # --- drawing tools ---------------------------------------------------------------------
    def edge(self, distance: Field, softness: float = 0.0) -> Field:
        """0 outside to 1 inside over `softness` (at least a pixel) of a signed distance."""
        return np.clip(distance * (1.0 / max(softness, 1.5 * self.pixel)) + 0.5, 0.0, 1.0)

    def band(self, distance: Field, half_width: float) -> Field:
        """A soft line where `distance` is near 0; thinner than a pixel means fainter."""
        half = max(half_width, 0.6 * self.pixel)
        profile = np.clip(1.0 - (distance * (1.0 / half)) ** 2, 0.0, 1.0)
        return profile * np.float32(half_width / half)

    def blob(self, x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> Field:
        """Squared normalised radius of an ellipse: 0 at its centre, 1 on its rim."""
        dx, dy = self.x - x, self.y - y
        c, s = np.cos(angle), np.sin(angle)
        return ((c * dx + s * dy) * (1 / rx)) ** 2 + ((c * dy - s * dx) * (1 / ry)) ** 2

    def clouds(self, rng: np.random.Generator, cells: int) -> Field:
        """Smooth noise, mean about 0 and deviation about 1, `cells` lumps across the film."""
        return _enlarge(rng.standard_normal((cells + 3, cells + 3)), self.size)

    def canvas(self) -> Canvas:
        return Canvas(self)

    def side_x(self, side, lateral, y):
        """The x of a point `lateral` from the midline on a side (-1 image left, 1 right)."""
        return side * lateral + self.midline(y)

    def midline(self, y):
        """x of the spine at height y."""
        return self.anatomy.scoliosis * np.sin(2.6 * y + 0.6)

    def wall_at(self, y):
        """Lateral extent of the lung at height y."""
        t = np.clip((y - self.anatomy.apex) / (0.72 - self.anatomy.apex), 1e-3, 1)
        return _wall(t, self.anatomy)

    def dome_at(self, side: int) -> float:
        """y of the top of a hemidiaphragm."""
        return self.dome[0 if side < 0 else 1]


class Canvas:
    """Lines and dots in frame coordinates, drawn finer than the film and averaged down."""

    def __init__(self, scene: Scene):
        self.view = scene.view
        self.size = scene.size
        self.fine = max(2, -(-256 // scene.size))
        self.pixels = self.size * self.fine
        self.image = Image.new("L", (self.pixels, self.pixels))
        self.draw = ImageDraw.Draw(self.image)

    def to_pixels(self, points) -> NDArray:
        """Frame coordinates `(…, 2)` to canvas pixels."""
        points = np.asarray(points, np.float64)
        c, s = np.cos(self.view.tilt), np.sin(self.view.tilt)
        x = self.view.zoom * (c * points[..., 0] - s * points[..., 1]) + self.view.shift[0]
        y = self.view.zoom * (s * points[..., 0] + c * points[..., 1]) + self.view.shift[1]
        return np.stack((x + 1, y + 1), -1) * (self.pixels / 2)

    def line(self, points, width: float, level: float = 1.0) -> None:
        """One polyline `(n, 2)`; see `lines`."""
        self.lines([points], width, level)

    def lines(self, points, width, level=1.0) -> None:
        """Polylines `(m, n, 2)`, each of a width in frame units and a level 0…1 (or one for all);
        thinner than a dot means fainter."""
        flat = self.to_pixels(points)
        flat = flat.reshape(len(flat), -1).tolist()
        wanted = np.full(len(flat), width) * (self.view.zoom * self.pixels / 2)
        fills = (255 * np.minimum(level, 1) * np.minimum(wanted, 1)).astype(int).tolist()
        widths = np.maximum(np.rint(wanted), 1).astype(int).tolist()
        for line, fill, thick in zip(flat, fills, widths, strict=True):
            self.draw.line(line, fill, thick, "curve")

    def field(self, blur: float = 0.0) -> Field:
        """What was drawn, as float32 `(size, size)` in 0…1, blurred over a length."""
        pixels = blur * self.view.zoom * self.pixels / 2
        if pixels > 0.4:
            self.image = self.image.filter(ImageFilter.GaussianBlur(pixels))
        return np.asarray(self.image.reduce(self.fine), np.float32) * np.float32(1 / 255)


def draw_radiograph(anatomy: Anatomy, view: View, findings: Mapping[str, Lesion],
                    size: int) -> NDArray[np.uint8]:
    """Draw one radiograph.

    Args:
        anatomy: The patient.
        view: The exposure.
        findings: By class name, a key of `FINDINGS`.
        size: Height and width in pixels, 16 or more.

    Returns:
        uint8 `(size, size)`, bright where the body absorbs.
    """
    scene = _scene_with(anatomy, view, findings, size)
    return _expose(scene, _attenuation(scene))


def finding_region(anatomy: Anatomy, view: View, findings: Mapping[str, Lesion], name: str,
                   size: int) -> NDArray[np.bool_]:
    """Where a finding is in a radiograph: what it changes of the body, before the exposure.

    Args:
        anatomy, view, findings, size: Of the radiograph, as for `draw_radiograph`.
        name: One of `findings`.

    Returns:
        bool `(size, size)`: where the attenuation with and without this finding, all others as
        they are, differs by at least a fifth of the largest difference.
    """
    others = {other: lesion for other, lesion in findings.items() if other != name}
    with_it, without = (_attenuation(_scene_with(anatomy, view, shown, size))
                        for shown in (findings, others))
    change = np.abs(with_it - without)
    return (change >= REGION_SHARE * change.max()) & (change > 0)


def _scene_with(anatomy: Anatomy, view: View, findings: Mapping[str, Lesion],
                size: int) -> Scene:
    scene = Scene(anatomy, view, size)
    _set_geometry(scene)
    drawn = [(FINDINGS[name], lesion) for name, lesion in findings.items()]
    for (shape, _), lesion in drawn:
        if shape:
            shape(scene, lesion.severity, np.random.default_rng(lesion.seed))
    _outline(scene)
    for (_, paint), lesion in drawn:
        if paint:
            paint(scene, lesion.severity, np.random.default_rng(lesion.seed))
    return scene


# --- anatomy ---------------------------------------------------------------------------------
def _set_geometry(scene: Scene) -> None:
    anatomy, view = scene.anatomy, scene.view
    breath = 0.06 * view.inspiration
    scene.heart = anatomy.heart * (1.06 if view.portable else 1.0) - 0.02 * view.inspiration
    scene.knob = anatomy.knob
    scene.midline_shift = view.rotation
    scene.dome = (anatomy.dome_right + breath, anatomy.dome_left + breath)
    scene.dome_drop = anatomy.dome_drop


@lru_cache(maxsize=4)
def _pixel_grid(size: int) -> tuple[Field, Field]:
    centres = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1).astype(np.float32)
    return np.meshgrid(centres, centres)


def _enlarge(coarse: NDArray, size: int) -> Field:
    """A coarse grid as a smooth float32 `(size, size)` field; its rim, which mirrors, is cut."""
    image = Image.fromarray(np.asarray(coarse, np.float32))
    n = coarse.shape[0]
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, (1, 1, n - 1, n - 1)))


def _wall(t, anatomy: Anatomy):
    """Lateral edge of the lung at fraction t of the way from apex to base."""
    rounded = (1 - (1 - t) ** 2.4) ** anatomy.barrel
    return 0.14 + (anatomy.half_width - 0.14) * rounded * (1 - 0.05 * t * t)


def _curve(points, y: Field) -> Field:
    """Smooth curve x(y) through control points `(y, x)`, evaluated at a field of y."""
    ys, xs = np.asarray(points, np.float64).T
    slopes = np.gradient(xs, ys)
    fine = np.linspace(ys[0], ys[-1], 128)
    i = np.clip(np.searchsorted(ys, fine, "right") - 1, 0, len(ys) - 2)
    h = ys[i + 1] - ys[i]
    t = (fine - ys[i]) / h
    cubic = ((1 + 2 * t) * (1 - t) ** 2 * xs[i] + t * (1 - t) ** 2 * h * slopes[i]
             + t * t * (3 - 2 * t) * xs[i + 1] + t * t * (t - 1) * h * slopes[i + 1])
    position = (y - np.float32(ys[0])) * np.float32(127 / (ys[-1] - ys[0]))
    position = np.clip(position, 0, 126.999)
    below = position.astype(np.int32)
    cubic = cubic.astype(np.float32)
    low = cubic[below]
    return low + (cubic[below + 1] - low) * (position - below)


def _outline(scene: Scene) -> None:
    """Fill in the fields that depend on the geometry: frame, body, lungs, silhouette."""
    anatomy, view = scene.anatomy, scene.view
    px, py = _pixel_grid(scene.size)
    px, py = px - np.float32(view.shift[0]), py - np.float32(view.shift[1])
    c, s = np.float32(np.cos(view.tilt) / view.zoom), np.float32(np.sin(view.tilt) / view.zoom)
    scene.x, scene.y = x, y = c * px + s * py, c * py - s * px
    scene.pixel = 2 / scene.size / view.zoom

    centred = x - scene.midline(y).astype(np.float32)
    scene.left = left = (centred > 0).astype(np.float32)
    scene.lateral = lateral = np.abs(centred)

    # Body: neck, sloping shoulders, trunk; arms join above the armpits.
    trunk = anatomy.half_width + 0.10 + 0.24 * anatomy.habitus
    armpit = np.clip(0.06 - y, 0, None)
    width = trunk + 0.05 * y + 2.0 * armpit * armpit
    shoulder = y - (-1.02 + 0.40 * np.clip(lateral - 0.24, 0, None))
    neck = (0.19 + 0.05 * anatomy.habitus) - lateral
    side = width - lateral
    inside = np.minimum(side, np.maximum(shoulder, neck))
    scene.body = scene.edge(inside, 0.02) * np.sqrt(np.clip(inside * 3.6 + 0.03, 0, 1))

    t = np.clip((y - anatomy.apex) * (1 / (0.72 - anatomy.apex)), 1e-4, 1)
    scene.depth_below_apex = t
    scene.wall = wall = _wall(t, anatomy).astype(np.float32)

    # Diaphragm: a dome per side, steep towards the costophrenic angle.
    peak = 0.34
    outer = np.clip((lateral - peak) * (1 / (anatomy.half_width - peak)), 0, 1.2)
    inner = np.clip((peak - lateral) * (1 / peak), 0, 1)
    top = scene.dome[0] + (scene.dome[1] - scene.dome[0]) * left
    drop = scene.dome_drop
    scene.diaphragm = top + drop * outer ** 2.2 + (0.25 * drop) * inner * inner

    # Heart and great vessels: one outline, right and left border over y.
    base = 0.5 * (scene.dome[0] + scene.dome[1])
    stretch = (base + 0.36) / 0.80
    span = scene.heart * 2 * anatomy.half_width
    bulge, apex_x = 0.34 * span, 0.66 * span
    knob = 0.13 + 0.055 * scene.knob
    shift = scene.midline_shift
    left_border = _curve([(-1.0, 0.085), (-0.72, 0.095), (-0.55, 0.115), (-0.44, knob),
                          (-0.33, knob - 0.035), (-0.22, 0.6 * knob + 0.10),
                          (-0.36 + 0.36 * stretch, 0.17 + 0.25 * (apex_x - 0.25)),
                          (-0.36 + 0.56 * stretch, 0.80 * apex_x + 0.03),
                          (-0.36 + 0.76 * stretch, apex_x),
                          (-0.36 + 0.92 * stretch, 0.90 * apex_x), (1.0, 0.6 * apex_x)], y)
    right_border = _curve([(-1.0, 0.085), (-0.72, 0.10), (-0.5, 0.12 + 0.5 * scene.ascending_aorta),
                           (-0.30, 0.125 + scene.ascending_aorta), (-0.14, 0.135),
                           (-0.36 + 0.46 * stretch, 0.9 * bulge),
                           (-0.36 + 0.66 * stretch, bulge),
                           (-0.36 + 0.90 * stretch, 0.86 * bulge), (1.0, 0.8 * bulge)], y)
    to_left = left_border + shift - centred
    to_right = centred + right_border - shift
    within = np.minimum(to_left, to_right)
    depth = 0.62 + 0.38 * np.sqrt(np.clip(within * 5, 0, 1))
    scene.silhouette = scene.edge(within, 0.022) * depth
    if scene.descending_aorta:
        path = 0.10 + scene.descending_aorta * np.exp(-((y - 0.02) * (1 / 0.26)) ** 2)
        vessel = np.clip(1 - ((centred - path + 0.05) * (1 / 0.085)) ** 2, 0, 1)
        vessel = np.sqrt(vessel) * scene.edge(y + 0.42, 0.1)
        scene.silhouette = np.maximum(scene.silhouette, 0.72 * vessel)

    medial = 0.06 + 0.16 * np.clip(1 - t * 7, 0, 1) ** 2
    air = (scene.edge(wall - lateral, 0.015) * scene.edge(lateral - medial, 0.03)
           * scene.edge(scene.diaphragm - y, 0.016))
    chord = 0.40 + 0.60 * np.sqrt(np.clip((wall - lateral) * 3.2, 0, 1))
    scene.lung = air * chord * (0.80 + 0.20 * np.clip(3 * t, 0, 1)) * (y > anatomy.apex)

    scene.opacity = np.zeros_like(x)
    scene.vessel_mask = np.ones_like(x)
    scene.added = np.zeros_like(x)


def _vessel_tree(scene: Scene) -> Field:
    """Branching lung markings out of both hila, thinning towards the wall."""
    rng = np.random.default_rng(scene.anatomy.vessels_seed)
    canvas = scene.canvas()
    for side in (-1, 1):
        hilum = np.array([scene.side_x(side, 0.155, -0.1) + scene.midline_shift,
                          -0.12 if side < 0 else -0.16])
        angles = np.linspace(-1.45, 1.50, 9) + rng.normal(0, 0.2, 9)
        starts = hilum + rng.normal(0, 0.018, (9, 2))
        width, length = 0.028, 0.16
        for _ in range(5):
            n = len(angles)
            lengths = length * rng.uniform(0.65, 1.3, n)
            bend = angles + rng.normal(0, 0.10, n)
            middle = starts + 0.5 * lengths[:, None] * np.stack((side * np.cos(angles),
                                                                 np.sin(angles)), 1)
            ends = middle + 0.5 * lengths[:, None] * np.stack((side * np.cos(bend),
                                                               np.sin(bend)), 1)
            canvas.lines(np.stack((starts, middle, ends), 1), width, rng.uniform(0.3, 0.9, n))
            spread = rng.uniform(0.15, 0.5, n)
            angles = np.concatenate((bend + spread, bend - spread))
            starts = np.concatenate((ends, ends))
            keep = rng.random(2 * n) < 0.78
            angles, starts = angles[keep], starts[keep]
            width, length = width * 0.66, length * 0.80
    return canvas.field()


def _ribs(scene: Scene) -> Field:
    """Posterior and anterior ribs: two periodic families of curves, all pairs at once."""
    anatomy, y = scene.anatomy, scene.y
    s = scene.lateral / scene.wall
    inside = scene.edge(1.05 - s, 0.04) * scene.edge(y - anatomy.apex - 0.07, 0.10)
    spacing = anatomy.rib_spacing
    tangent = 1 / np.sqrt(np.clip(1.06 - s * s, 0.22, 1))

    s2 = s * s
    back = (y + 0.10 * np.sin(2.6 * s) - 0.30 * s2 * s2) * (1 / spacing) + anatomy.rib_phase
    posterior = _rib_profile(back, 0.36, spacing, scene.pixel)
    posterior *= inside * scene.edge(s - 0.10, 0.08) * scene.edge(0.62 - y, 0.25)

    front = (y - 0.42 * np.clip(1 - s, 0, 1) ** 1.3 + 0.02) * (1 / (1.12 * spacing))
    anterior = _rib_profile(front + anatomy.rib_phase, 0.40, spacing, scene.pixel)
    anterior *= inside * scene.edge(s - 0.46, 0.22) * scene.edge(0.92 - s, 0.16) * scene.edge(
        0.45 - y, 0.25)
    return (0.062 * posterior + 0.036 * anterior) * tangent * anatomy.rib_density


def _rib_profile(phase: Field, duty: float, spacing: float, pixel: float) -> Field:
    """1 on a rib, a little more on its cortical rims, 0 between ribs; phase counts ribs."""
    offset = np.abs(phase - np.floor(phase) - 0.5) * 2     # 0 mid-rib … 1 mid-gap
    ramp = max(0.16, 3 * pixel / spacing)
    body = np.clip((duty - offset) * (1 / ramp) + 0.5, 0, 1)
    rim = np.clip(1 - np.abs(offset - duty + 0.10) * (1 / 0.16), 0, 1)
    return body + 0.22 * rim


def _skeleton(scene: Scene) -> Field:
    anatomy, y, lateral = scene.anatomy, scene.y, scene.lateral
    bone = _ribs(scene)
    # Spine: vertebral bodies, discs between them, spinous processes.
    level = np.cos(y * (2 * np.pi / 0.135) + 6 * anatomy.rib_phase)
    column = scene.edge(0.075 - 0.006 * level - lateral, 0.02)
    bone = bone + column * (0.13 + 0.03 * level) * (0.8 + 0.2 * scene.edge(y, 0.8))
    bone += 0.045 * scene.edge(0.02 - lateral, 0.015) * np.clip(level, 0, 1)
    # Clavicles: an S from the sternum to the shoulder, axial rotation moves their ends.
    for side in (-1, 1):
        d = side * (scene.x - 0.7 * scene.midline_shift)
        line = (anatomy.clavicle_y - anatomy.clavicle_slope * (d - 0.07)
                + 0.045 * np.sin(5.5 * (d - 0.07)))
        off = y - line
        thick = 0.026 + 0.016 * np.clip(1 - (d - 0.07) * 6, 0, 1)
        shape = scene.edge(thick - np.abs(off), 0.015) * scene.edge(d - 0.07, 0.03)
        shape *= scene.edge(0.80 - d, 0.05)
        rim = scene.band(np.abs(off) - thick + 0.006, 0.008)
        bone += shape * (0.085 + 0.06 * rim)
    # Shoulder blades and humeral heads.
    blade = scene.edge(0.10 - np.abs(lateral - 0.83 + 0.22 * (y + 0.25)), 0.03)
    blade *= scene.edge(y + 0.66, 0.05) * scene.edge(-0.12 - y + 0.3 * (lateral - 0.7), 0.06)
    bone += 0.055 * blade
    head = scene.edge(0.11 - np.hypot(lateral - 0.99, y + 0.60), 0.02)
    return (bone + 0.12 * head) * anatomy.bone


def _attenuation(scene: Scene) -> Field:
    anatomy, view, x, y = scene.anatomy, scene.view, scene.x, scene.y
    lateral, left = scene.lateral, scene.left
    thick = 0.74 + 0.17 * anatomy.habitus
    tissue = scene.body * thick

    # Soft tissue that lies over the lungs: breasts, chest wall muscles.
    if anatomy.breasts:
        for side in (-1, 1):
            r2 = scene.blob(side * 0.46, anatomy.breast_y, 0.30, 0.26 + 0.05 * anatomy.habitus)
            lower = np.clip(1 - r2, 0, 1) * scene.edge(y - anatomy.breast_y + 0.18, 0.4)
            tissue += 0.20 * anatomy.breasts * np.sqrt(lower)
    pectoral = scene.edge(lateral - 0.45 - 0.5 * (y + 0.4), 0.5) * scene.edge(-0.02 - y, 0.4)
    tissue += 0.05 * pectoral * scene.body

    # Abdomen below the domes, with stomach and bowel gas on the left.
    below = scene.edge(y - scene.diaphragm, 0.03)
    tissue += below * scene.body * (0.16 + 0.20 * np.clip((y - scene.diaphragm) * 3.0, 0, 1))
    texture = np.random.default_rng(anatomy.vessels_seed + 1)
    gas = anatomy.stomach_gas
    if gas > 0.35:
        r2 = scene.blob(0.36 + 0.1 * (gas - 0.6), scene.dome[1] + 0.10, 0.07 + 0.12 * (gas - 0.35),
                        0.03 + 0.05 * gas, 0.15)
        r2 = r2 + 0.35 * scene.clouds(texture, 7)
        tissue -= below * (0.24 * scene.edge(1 - r2, 0.8))

    mottle = scene.clouds(texture, 26) * 0.020 + scene.clouds(texture, 60) * 0.014

    silhouette = scene.silhouette
    free = 1 - silhouette
    vessels = _vessel_tree(scene) * scene.vessel_gain
    hilum = np.exp(-(((lateral - 0.17) * 10) ** 2 + ((y + 0.12) * 7.5) ** 2))
    markings = (0.22 * vessels + 0.15 * hilum * scene.vessel_gain) * scene.vessel_mask
    opacity = np.clip(scene.opacity + (markings + mottle) * (1 - scene.opacity), 0, 1)
    air = scene.lung * free * (1 - opacity)
    tissue -= (0.50 + 0.04 * anatomy.habitus) * scene.lung_air * air
    tissue += 0.17 * silhouette * scene.body * (1 - 0.5 * below)

    # Windpipe and main bronchi.
    pipe = scene.edge(0.036 - np.abs(x - 0.5 * scene.midline_shift), 0.02)
    pipe *= scene.edge(-0.30 - y, 0.05)
    fork = y + 0.31
    bronchi = scene.band(lateral - 0.03 - 0.75 * np.clip(fork, 0, 1), 0.026)
    bronchi *= scene.edge(fork, 0.03) * scene.edge(0.17 - fork, 0.1)
    tissue -= 0.13 * pipe + 0.07 * bronchi

    tissue += _skeleton(scene) * np.clip(scene.body * 2, 0, 1) + scene.added
    # A turned patient has one brighter side.
    return tissue * (1 + 0.9 * view.rotation * (left - 0.5))


def _expose(scene: Scene, attenuation: Field) -> NDArray[np.uint8]:
    """Scatter, film curve, noise, collimation and the things that lie on the cassette."""
    view, size = scene.view, scene.size
    rng = np.random.default_rng(view.seed)
    attenuation = attenuation + _devices(scene)
    coarse = Image.fromarray(attenuation).resize((12, 12), Image.Resampling.BOX)
    scatter = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    share = 0.22 if view.portable else 0.10
    attenuation = attenuation + share * (scatter - attenuation)

    # Fewer quanta pass where more is absorbed; a coarse pixel averages over more of them.
    grain = rng.standard_normal((size, size), dtype=np.float32)
    grain *= np.float32(view.noise * min(1.0, (size / 256) ** 0.5)) * (0.4 + attenuation)
    film = (attenuation + grain - 0.58 + view.brightness) * np.float32(4.9 * view.contrast)
    grey = 1 / (1 + np.exp(-film))

    px, py = _pixel_grid(size)
    lowest, highest = 0.02, 0.965
    grey = lowest + (highest - lowest) * grey
    x0, x1, y0, y1 = view.collimation
    shutter = np.maximum(np.maximum(-1 + 2 * x0 - px, px - 1 + 2 * x1),
                         np.maximum(-1 + 2 * y0 - py, py - 1 + 2 * y1))
    grey = np.where(shutter > 0, np.float32(0.01), grey)
    if view.marker[2]:
        grey = np.maximum(grey, 0.93 * _marker(size, view.marker[0], view.marker[1]))
    return np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8)


@lru_cache(maxsize=64)
def _letter(pixels: int, text: str) -> Image.Image:
    image = Image.new("L", (pixels, pixels))
    ImageDraw.Draw(image).text((0, 0), text, fill=255, font=ImageFont.load_default(pixels * 0.8))
    return image


def _marker(size: int, side: float, y: float) -> Field:
    """The lead letter: R on the patient's right (image left), L on the left."""
    fine = max(2, -(-256 // size))
    image = Image.new("L", (size * fine, size * fine))
    n = size * fine
    letter = _letter(max(4, round(0.07 * n)), "L" if side > 0 else "R")
    image.paste(letter, (round(n * (0.93 if side > 0 else 0.02)), round(n * (y + 1) / 2)))
    return np.asarray(image.reduce(fine), np.float32) * np.float32(1 / 255)


def _devices(scene: Scene) -> Field | float:
    """Metal and plastic that come with any diagnosis or none: distractors."""
    kind = scene.anatomy.device
    if not kind:
        return 0.0
    rng = np.random.default_rng(scene.anatomy.device_seed)
    canvas = scene.canvas()
    t = np.linspace(0, 1, 24)
    if kind == "pacemaker":
        side = 1 if rng.random() < 0.85 else -1
        cx, cy = side * rng.uniform(0.50, 0.62), rng.uniform(-0.52, -0.38)
        a, b = canvas.to_pixels([[cx - 0.075, cy - 0.06], [cx + 0.075, cy + 0.06]])
        canvas.draw.rounded_rectangle((*a, *b), radius=canvas.pixels * 0.02, fill=190)
        for _ in range(rng.integers(1, 3)):
            tip = (rng.uniform(0.02, 0.24), rng.uniform(0.2, 0.36))
            path = _bezier(t, (cx, cy), (0.1, -0.62), (-0.12, -0.3), tip)
            canvas.line(path, 0.010)
        return 0.45 * canvas.field()
    if kind == "line":
        side = rng.choice((-1, 1))
        path = _bezier(t, (side * 0.42, -0.70), (side * 0.25, -0.66), (-0.10, -0.60),
                       (-0.10, rng.uniform(-0.25, 0.02)))
        canvas.line(path, 0.011)
        return 0.18 * canvas.field()
    if kind == "tube":
        canvas.line(_bezier(t, (0.01, -1.05), (0, -0.8), (0.01, -0.6), (0, -0.42)), 0.022)
        canvas.line(_bezier(t, (0.02, -1.05), (0.03, -0.5), (0, 0.2), (0.16, 0.62)), 0.012)
        return 0.15 * canvas.field()
    for _ in range(rng.integers(2, 5)):
        x, y = rng.uniform(-0.7, 0.7), rng.uniform(-0.5, 0.5)
        start = canvas.to_pixels((x, y))
        r = 0.010 * canvas.pixels
        canvas.draw.ellipse((*(start - r), *(start + r)), fill=220)
        canvas.line(_bezier(t, (x, y), (x + rng.normal(0, 0.3), y - 0.2), (rng.normal(0, 0.4), 0.5),
                            (rng.uniform(-0.8, 0.8), 1.1)), 0.010, 0.7)
    return 0.30 * canvas.field()


def _bezier(t, a, b, c, d) -> NDArray:
    """Cubic Bézier curve, `(len(t), 2)`."""
    t = t[:, None]
    a, b, c, d = (np.asarray(point, np.float64) for point in (a, b, c, d))
    return (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t * t * (1 - t) * c + t**3 * d


# --- findings --------------------------------------------------------------------------------
# Each is a pair (shape, paint): `shape` changes the geometry, `paint` the fields; either is None.
def _side(rng: np.random.Generator, right: float = 0.5) -> int:
    """-1 for the patient's right lung (image left), 1 for the left."""
    return -1 if rng.random() < right else 1


def _fill(scene: Scene, opacity: Field) -> None:
    """Replace air in the lungs; overlapping findings never make more than solid."""
    scene.opacity = scene.opacity + opacity * (1 - scene.opacity)


def _only(scene: Scene, side: int) -> Field:
    return scene.left if side > 0 else 1 - scene.left


def _enlarge_heart(scene: Scene, severity: float, rng) -> None:
    scene.heart = max(scene.heart, 0.47) + 0.02 + 0.13 * severity


def _effusion(scene: Scene, severity: float, rng) -> None:
    both = rng.random() < 0.35
    first = _side(rng)
    for side, share in ((first, 1.0), (-first, rng.uniform(0.3, 0.9))):
        if side != first and not both:
            continue
        amount = share * (0.12 + 0.88 * severity**1.3)
        angle_y = scene.dome_at(side) + scene.dome_drop
        outer = np.clip(scene.lateral / scene.wall, 0, 1)
        level = angle_y - 0.06 - 0.62 * amount - 0.16 * outer**5 + 0.05 * (1 - outer)
        _fill(scene, (0.80 + 0.15 * amount) * _only(scene, side)
              * scene.edge(scene.y - level, 0.05 + 0.06 * amount))


def _patch(scene: Scene, rng, side: int, size: float, lower: float = 0.6) -> Field:
    """A ragged opacity somewhere in one lung, 0…1."""
    y = rng.uniform(0.02, 0.32) if rng.random() < lower else rng.uniform(-0.5, -0.05)
    lateral = rng.uniform(0.24, 0.30 + 0.55 * (scene.wall_at(y) - 0.30))
    r2 = scene.blob(scene.side_x(side, lateral, y), y, size * rng.uniform(0.9, 1.4),
                    size * rng.uniform(0.8, 1.2), rng.uniform(-0.5, 0.5))
    rough = 0.40 * scene.clouds(rng, 9) + 0.22 * scene.clouds(rng, 20)
    return np.clip(1.25 - r2 + rough * np.clip(1.6 - 0.4 * r2, 0, 2), 0, 1) * _only(scene, side)


def _infiltration(scene: Scene, severity: float, rng) -> None:
    strength = 0.16 + 0.26 * severity
    side = _side(rng, 0.55)
    _fill(scene, strength * _patch(scene, rng, side, rng.uniform(0.15, 0.25)))
    if rng.random() < 0.5:
        _fill(scene, 0.8 * strength * _patch(scene, rng, -side, rng.uniform(0.12, 0.22)))


def _pneumonia(scene: Scene, severity: float, rng) -> None:
    side = _side(rng, 0.6)
    patch = _patch(scene, rng, side, rng.uniform(0.15, 0.24), lower=0.75)
    lumps = np.clip(0.72 + 0.30 * scene.clouds(rng, 24), 0.25, 1)
    _fill(scene, (0.36 + 0.36 * severity) * patch * lumps)
    if rng.random() < 0.35:
        other = _patch(scene, rng, rng.choice((-1, 1)), rng.uniform(0.09, 0.15), lower=0.7)
        _fill(scene, (0.25 + 0.3 * severity) * other * lumps)


def _consolidation(scene: Scene, severity: float, rng) -> None:
    """A lobe without air: flat density, one straight fissure, air bronchograms."""
    side = _side(rng, 0.55)
    upper = rng.random() < 0.35
    fissure = rng.uniform(-0.16, 0.02)
    slope = rng.uniform(-0.25, 0.35)
    beyond = scene.y - fissure - slope * (scene.lateral - 0.3)
    reach = 0.16 + 0.30 * severity
    if upper:
        beyond = -beyond
    rough = 0.05 * scene.clouds(rng, 12)
    beyond = beyond + 0.012 * scene.clouds(rng, 6)
    lobe = scene.edge(beyond, 0.035) * scene.edge(reach + rough - beyond, 0.14)
    lateral = rng.uniform(0.30, 0.60)
    lobe *= scene.edge(0.30 + 0.12 * severity - np.abs(scene.lateral - lateral) + rough, 0.16)
    canvas = scene.canvas()
    y0 = fissure + (-0.5 if upper else 0.5) * reach
    for _ in range(4):
        start = (scene.side_x(side, 0.18, y0), rng.normal(-0.08, 0.03))
        end = (scene.side_x(side, rng.uniform(0.35, 0.6), y0), y0 + rng.normal(0, 0.12))
        canvas.line((start, end), 0.014)
    bronchograms = 1 - 0.32 * canvas.field(0.006)
    _fill(scene, (0.42 + 0.42 * severity) * lobe * bronchograms * _only(scene, side))


def _spot(scene: Scene, rng, radius: float, lobes: int) -> Field:
    """A round or lobulated soft-tissue shadow inside a lung, 0…1."""
    side = _side(rng)
    y = rng.uniform(-0.55, 0.30)
    wall = scene.wall_at(y)
    lateral = rng.uniform(0.24, max(0.28, wall - 0.7 * radius - 0.03))
    x = scene.side_x(side, lateral, y)
    shadow = np.zeros_like(scene.x)
    for _ in range(lobes):
        dx, dy = rng.normal(0, 0.32 * radius, 2) if lobes > 1 else (0, 0)
        r2 = scene.blob(x + dx, y + dy, radius * rng.uniform(0.75, 1.1),
                        radius * rng.uniform(0.75, 1.1), rng.uniform(0, 3))
        rim = max(0.45, 2 * scene.pixel / radius)
        lobe = np.clip((1 - r2) / rim, 0, 1) * np.sqrt(np.clip(1.15 - r2, 0, 1))
        shadow = np.maximum(shadow, lobe)
    return shadow


def _mass(scene: Scene, severity: float, rng) -> None:
    radius = 0.085 + 0.075 * severity * rng.uniform(0.6, 1.2)
    shadow = _spot(scene, rng, radius, int(rng.integers(3, 6)))
    _fill(scene, (0.52 + 0.35 * severity) * shadow)


def _nodule(scene: Scene, severity: float, rng) -> None:
    for _ in range(int(rng.integers(1, 4 + int(3 * severity)))):
        radius = rng.uniform(0.030, 0.044 + 0.034 * severity)
        _fill(scene, (0.48 + 0.40 * severity) * _spot(scene, rng, radius, 1))


def _pneumothorax_shape(scene: Scene, severity: float, rng) -> None:
    side = _side(rng)
    scene.midline_shift -= side * 0.05 * max(0.0, severity - 0.6)


def _pneumothorax(scene: Scene, severity: float, rng) -> None:
    """Air between lung and wall: no markings outside a fine white edge, most at the apex."""
    side = _side(rng)
    t = scene.depth_below_apex
    gap = (0.05 + 0.30 * severity**1.4) * (0.35 + 0.65 * np.clip(1.25 - 1.3 * t, 0, 1))
    gap += 0.06 * (0.4 + severity) * np.clip(1 - t * 6, 0, 1)
    pleura = scene.wall - gap - scene.lateral
    lung = _only(scene, side)
    outside = scene.edge(-pleura, 0.012) * lung
    scene.vessel_mask = scene.vessel_mask * (1 - outside)
    scene.opacity = scene.opacity * (1 - outside)
    scene.added -= 0.10 * outside * scene.lung * (1 - scene.silhouette)
    collapsed = lung - outside
    _fill(scene, (0.05 + 0.20 * severity) * collapsed)
    scene.added += 0.10 * scene.band(pleura, 0.008) * lung * scene.edge(scene.lung, 0.1) * (
        1 - scene.silhouette)


def _atelectasis_shape(scene: Scene, severity: float, rng) -> None:
    if rng.random() < 0.55:
        side = _side(rng)
        lift = 0.04 + 0.12 * severity
        scene.dome = tuple(y - lift if (i == 1) == (side > 0) else y
                           for i, y in enumerate(scene.dome))
        scene.midline_shift += side * 0.035 * severity


def _atelectasis(scene: Scene, severity: float, rng) -> None:
    """Plates above the diaphragm; with volume loss also a dense wedge at the base."""
    lobar = rng.random() < 0.55
    side = _side(rng)
    canvas = scene.canvas()
    base = scene.dome_at(side)
    for _ in range(int(rng.integers(1, 3 + int(2 * severity)))):
        y = base - rng.uniform(0.04, 0.30)
        length = rng.uniform(0.16, 0.28) + 0.12 * severity
        a = rng.uniform(0.20, max(0.24, scene.wall_at(y) - length))
        slope = rng.normal(0, 0.16)
        ends = [(scene.side_x(side, a, y), y), (scene.side_x(side, a + 0.5 * length, y),
                y + 0.5 * length * slope + rng.normal(0, 0.008)),
                (scene.side_x(side, a + length, y), y + length * slope)]
        width = rng.uniform(0.018, 0.026) + 0.016 * severity
        canvas.line(ends, 0.5 * width, 0.5 + 0.5 * severity)
        canvas.line([0.75 * np.array(ends[0]) + 0.25 * np.array(ends[1]), *ends[1:2],
                     0.75 * np.array(ends[2]) + 0.25 * np.array(ends[1])], width,
                    0.5 + 0.5 * severity)
    _fill(scene, canvas.field(0.006))
    if lobar:
        wedge = scene.y - base + 0.10 + 0.16 * severity + 0.5 * (scene.lateral - 0.15)
        _fill(scene, (0.3 + 0.4 * severity) * scene.edge(wedge, 0.12) * _only(scene, side))


def _edema_shape(scene: Scene, severity: float, rng) -> None:
    scene.vessel_gain *= 1.25 + 0.5 * severity


def _edema(scene: Scene, severity: float, rng) -> None:
    """Bat wings: haze around both hila that spares the rim, septal lines at the bases."""
    wing = np.zeros_like(scene.x)
    for side in (-1, 1):
        r2 = scene.blob(scene.side_x(side, 0.27, 0), -0.02 + rng.normal(0, 0.03), 0.25, 0.38)
        wing = np.maximum(wing, np.exp(-1.1 * r2))
    rough = np.clip(0.85 + 0.25 * scene.clouds(rng, 18), 0.3, 1.3)
    rim = np.clip((scene.wall - scene.lateral) * 5, 0.25, 1)
    _fill(scene, np.clip((0.32 + 0.48 * severity) * wing * rough * rim, 0, 0.9))
    canvas = scene.canvas()
    for side in (-1, 1):
        for y in np.linspace(0.12, 0.42, 8) + rng.normal(0, 0.008, 8):
            wall = scene.wall_at(y)
            canvas.line([(scene.side_x(side, wall, y), y),
                         (scene.side_x(side, wall - rng.uniform(0.05, 0.09), y), y)], 0.007)
    _fill(scene, (0.2 + 0.2 * severity) * canvas.field())


def _emphysema_shape(scene: Scene, severity: float, rng) -> None:
    scene.dome = tuple(y + 0.06 + 0.11 * severity for y in scene.dome)
    scene.dome_drop = scene.dome_drop * (0.75 - 0.45 * severity)
    scene.heart = scene.heart - 0.015 - 0.05 * severity
    scene.lung_air *= 1.03 + 0.10 * severity
    scene.vessel_gain *= 0.85 - 0.3 * severity


def _emphysema(scene: Scene, severity: float, rng) -> None:
    """Bullae: rounded areas without vessels."""
    for _ in range(int(1 + 4 * severity)):
        side, y = _side(rng), rng.uniform(-0.6, 0.25)
        lateral = rng.uniform(0.3, max(0.32, scene.wall_at(y) - 0.08))
        r2 = scene.blob(scene.side_x(side, lateral, y), y, *rng.uniform(0.07, 0.15, 2))
        hole = scene.edge(1 - r2, 0.4)
        scene.vessel_mask = scene.vessel_mask * (1 - 0.9 * hole)
        scene.added -= 0.04 * hole * scene.lung * (1 - scene.silhouette)


def _fibrosis_shape(scene: Scene, severity: float, rng) -> None:
    scene.dome = tuple(y - 0.02 - 0.07 * severity for y in scene.dome)


def _fibrosis(scene: Scene, severity: float, rng) -> None:
    """A net of short strands and small rings, densest at the bases and near the wall."""
    canvas = scene.canvas()
    n = int(150 + 260 * severity)
    sides = rng.choice((-1, 1), n)
    ys = 0.45 - np.abs(rng.normal(0, 0.30 + 0.12 * severity, n))
    inward = np.abs(rng.normal(0, 0.14 + 0.07 * severity, n))
    angles = rng.uniform(0, np.pi, n)
    lengths = rng.uniform(0.02, 0.055, n)
    bends = angles + np.pi + rng.normal(0, 0.5, n)
    lateral = np.maximum(0.16, scene.wall_at(ys) - inward)
    centres = np.stack((scene.side_x(sides, lateral, ys), ys), 1)
    ends = [centres + 0.5 * lengths[:, None] * np.stack((np.cos(a), np.sin(a)), 1)
            for a in (angles, bends)]
    canvas.lines(np.stack((ends[0], centres, ends[1]), 1), 0.009, rng.uniform(0.35, 1.0, n))
    _fill(scene, (0.42 + 0.40 * severity) * canvas.field(0.003))
    low = np.clip((scene.y + 0.15) * 1.8, 0, 1)
    low *= np.clip(1.5 - 4 * (scene.wall - scene.lateral), 0, 1)
    _fill(scene, (0.10 + 0.20 * severity) * low)


def _pleural_thickening(scene: Scene, severity: float, rng) -> None:
    side = _side(rng)
    apical = rng.random() < 0.4
    width = 0.036 + 0.060 * severity
    rough = 1 + 0.25 * scene.clouds(rng, 10)
    rim = scene.edge(width * rough - (scene.wall - scene.lateral), 0.015)
    t = scene.depth_below_apex
    if apical:
        rim = np.maximum(rim, scene.edge(0.6 * width * rough - (t - 0.02), 0.02))
        rim = rim * scene.edge(0.22 + 0.15 * severity - t, 0.06)
    else:
        middle, reach = rng.uniform(0.5, 0.75), 0.18 + 0.18 * severity
        rim = rim * scene.edge(reach - np.abs(t - middle), 0.05)
    rim = rim * _only(scene, side)
    _fill(scene, (0.75 + 0.25 * severity) * rim)
    scene.added += 0.04 * severity * rim


def _hernia(scene: Scene, severity: float, rng) -> None:
    """Stomach behind the heart: a round shadow over the diaphragm with an air-fluid level."""
    radius = 0.13 + 0.09 * severity
    x, y = rng.uniform(-0.02, 0.12), min(scene.dome) - 0.30 * radius
    r2 = scene.blob(x, y, radius * 1.2, radius)
    r2 = r2 + 0.12 * scene.clouds(rng, 6)
    shape = scene.edge(1 - r2, 0.3)
    scene.silhouette = np.maximum(scene.silhouette, 0.85 * shape)
    level = y + rng.uniform(-0.3, 0.4) * radius
    air = scene.edge(0.72 - r2, 0.35) * scene.edge(level - scene.y, 0.016)
    scene.added -= (0.10 + 0.15 * severity) * air


def _subcutaneous_emphysema(scene: Scene, severity: float, rng) -> None:
    """Air in the chest wall: dark streaks along the pectoral fibres and up the neck."""
    side = _side(rng)
    both = rng.random() < 0.4
    canvas = scene.canvas()
    for this in (side, -side) if both else (side,):
        n = int(40 + 60 * severity)
        y = rng.uniform(-0.62, 0.45, n)
        chest = y > -0.3
        away = np.where(chest, scene.wall_at(y) + rng.uniform(-0.04, 0.16, n),
                        rng.uniform(0.45, 0.92, n))
        angle = np.where(chest, rng.normal(1.25, 0.16, n), rng.normal(0.45, 0.2, n))
        centre = np.stack((scene.side_x(this, away, y), y), 1)
        step = np.stack((-this * np.cos(angle), np.sin(angle)), 1)
        step = step * rng.uniform(0.025, 0.085, (n, 1))
        bend = centre + rng.normal(0, 0.008, (n, 2))
        canvas.lines(np.stack((centre - step, bend, centre + step), 1),
                     rng.uniform(0.006, 0.018, n), rng.uniform(0.3, 0.9, n))
        for _ in range(6):
            x, y = this * rng.uniform(0.07, 0.22), rng.uniform(-0.98, -0.7)
            canvas.line([(x, y), (x + 0.01 * this, y + 0.06), (x + 0.03 * this, y + 0.13)], 0.014,
                        0.7)
    scene.added -= (0.13 + 0.20 * severity) * canvas.field(0.005) * np.clip(2 * scene.body, 0, 1)


def _tortuous_aorta_shape(scene: Scene, severity: float, rng) -> None:
    scene.knob += 0.6 + 0.8 * severity
    scene.descending_aorta = 0.11 + 0.10 * severity
    scene.ascending_aorta = 0.025 + 0.04 * severity


def _aortic_calcification(scene: Scene, severity: float, rng) -> None:
    """A bright rind on the arch, now and then down the descending aorta."""
    knob = 0.13 + 0.055 * scene.knob + scene.midline_shift
    canvas = scene.canvas()
    reach = 0.7 + 0.6 * severity
    angle = rng.uniform(-0.8, 0.2) + np.linspace(-reach, reach, 12)
    rx, ry = 0.06, 0.09
    arc = np.stack((knob - rx + rx * np.cos(angle) - 0.010, -0.44 + ry * np.sin(angle)), 1)
    canvas.line(arc, 0.012 + 0.008 * severity)
    for _ in range(int(1 + 3 * severity)):
        x, y = knob - rng.uniform(0.015, 0.05), rng.uniform(-0.38, -0.20)
        canvas.line([(x, y), (x + 0.012, y + 0.03)], 0.010, 0.8)
    scene.added += (0.30 + 0.30 * severity) * canvas.field(0.003)


def _pneumoperitoneum(scene: Scene, severity: float, rng) -> None:
    """Free air: a dark crescent between the dome, now a fine line, and the liver."""
    both = rng.random() < 0.5
    height = 0.035 + 0.065 * severity
    peak = np.clip(1 - ((scene.lateral - 0.36) * (1 / 0.30)) ** 2, 0, 1)
    sides = (1 - scene.left) if not both else 1 - 0.5 * scene.left
    under = scene.y - scene.diaphragm
    crescent = scene.edge(under - 0.014, 0.012) * scene.edge(height * peak - under, 0.012)
    scene.added -= (0.30 + 0.14 * severity) * crescent * sides


def _pneumomediastinum(scene: Scene, severity: float, rng) -> None:
    """Dark streaks along the heart and great vessels, a fine white line beside them."""
    reach = 0.014 + 0.016 * severity
    outline = scene.edge(0.45 - scene.silhouette, 0.4) * scene.edge(scene.silhouette - 0.02, 0.04)
    upper = scene.edge(0.30 - scene.y, 0.1)
    side = _only(scene, _side(rng, 0.35)) if rng.random() < 0.6 else 1.0
    scene.added -= (0.10 + 0.10 * severity) * outline * upper * side
    canvas = scene.canvas()
    for this in (-1, 1):
        for offset in (0.075, 0.105):
            x = this * (offset + rng.normal(0, 0.01)) + scene.midline_shift
            y = np.linspace(-1.0, rng.uniform(-0.55, -0.3), 9)
            wave = 0.03 * this * np.clip(-0.75 - y, 0, 1) * 4 + rng.normal(0, 0.005, 9)
            canvas.line(np.stack((x + wave, y), 1), reach, rng.uniform(0.5, 1.0))
    scene.added -= (0.12 + 0.16 * severity) * canvas.field(0.005)
    pleura = scene.band(scene.silhouette - 0.10, 0.10) * upper * side
    scene.added += 0.07 * pleura * scene.edge(scene.lung, 0.2)


Change = Callable[[Scene, float, np.random.Generator], None]

FINDINGS: dict[str, tuple[Change | None, Change | None]] = {
    "Atelectasis": (_atelectasis_shape, _atelectasis),
    "Cardiomegaly": (_enlarge_heart, None),
    "Effusion": (None, _effusion),
    "Infiltration": (None, _infiltration),
    "Mass": (None, _mass),
    "Nodule": (None, _nodule),
    "Pneumonia": (None, _pneumonia),
    "Pneumothorax": (_pneumothorax_shape, _pneumothorax),
    "Consolidation": (None, _consolidation),
    "Edema": (_edema_shape, _edema),
    "Emphysema": (_emphysema_shape, _emphysema),
    "Fibrosis": (_fibrosis_shape, _fibrosis),
    "Pleural Thickening": (None, _pleural_thickening),
    "Hernia": (None, _hernia),
    "Subcutaneous Emphysema": (None, _subcutaneous_emphysema),
    "Tortuous Aorta": (_tortuous_aorta_shape, None),
    "Calcification of the Aorta": (None, _aortic_calcification),
    "Pneumoperitoneum": (None, _pneumoperitoneum),
    "Pneumomediastinum": (None, _pneumomediastinum),
}
"""Every finding that can be drawn: (what it changes in the geometry, what it paints)."""
