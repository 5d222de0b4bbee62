"""Names of points: apart from each other and from the points, inside the axes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from cxcompress.reporting.point_labels import label_points


def boxes_of(axes, names):
    figure = axes.figure
    figure.canvas.draw()
    texts = {text.get_text(): text for text in axes.texts}
    assert list(texts) and set(texts) == set(names)
    # The box of a text without its line.
    return np.array([
        plt.Text.get_window_extent(texts[name], figure.canvas.get_renderer()).extents
        for name in names])


def shared_area(first, second):
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    return float(np.maximum(high - low, 0).prod())


@pytest.fixture
def axes():
    figure, axes = plt.subplots(figsize=(4, 4))
    yield axes
    plt.close(figure)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_crowded_names_stand_apart_and_inside(axes, scale):
    x, y = np.random.default_rng(0).uniform(1, 1.3, (2, 12))
    x[0], y[0] = 3, 3
    axes.set(xscale=scale, yscale=scale)
    axes.plot(x, y, "o", markersize=5)
    axes.set(xlim=(0.8, 3.1), ylim=(0.8, 3.1))
    names = [f"finding {number}" for number in range(12)]
    label_points(axes, x, y, names, fontsize=5)
    boxes = boxes_of(axes, names)
    points = axes.transData.transform(np.column_stack([x, y]))
    for number, box in enumerate(boxes):
        assert all(shared_area(box, other) < 1 for other in boxes[:number])
        assert not any((box[:2] < point).all() and (point < box[2:]).all() for point in points)
    frame = axes.get_window_extent()
    assert (boxes[:, :2] >= np.array([frame.x0, frame.y0]) - 1).all()
    assert (boxes[:, 2:] <= np.array([frame.x1, frame.y1]) + 1).all()


def test_points_that_are_not_finite_get_no_name(axes):
    axes.plot([0, 1], [0, 1], "o")
    label_points(axes, [0, np.nan, 1], [0, 1, np.inf], ["a", "b", "c"])
    assert [text.get_text() for text in axes.texts] == ["a"]
    label_points(axes, [np.nan], [0], ["d"])
    assert len(axes.texts) == 1
