"""A reader of graphs written from `FORMAT.md`, section 7, alone, against the runtime's own."""

from __future__ import annotations

import numpy as np
import pytest

from cxcompress import runtime
from cxcompress.storage import read_container


def whole_flatbuffer(container, plan: str) -> bytes:
    graph = container.graph[plan]
    stored, whole = graph.flatbuffer, b""
    for entry in graph.placement["kernels"]:
        gap = entry["offset"] - len(whole)
        whole, stored = whole + stored[:gap], stored[gap:]
        count = entry["factors"]
        factors, stored = np.frombuffer(stored[:4 * count], "<f4"), stored[4 * count:]
        if entry["path"] in container.shared.kernels:
            weights = container.shared.kernel(entry["path"])
        else:
            weights = container.shared.unshared[entry["path"]]
        weights = weights.transpose(entry["axes"]).reshape(entry["shape"])
        product = np.moveaxis(
            np.moveaxis(weights, entry["channel_axis"], -1) * factors, -1, entry["channel_axis"])
        if entry["dtype"] == "int8":
            product = np.rint(product).clip(-127, 127).astype("i1")
        whole += np.ascontiguousarray(product, "<f4" if entry["dtype"] == "float32" else "i1"
                                      ).tobytes()
    whole += stored
    assert len(whole) == graph.placement["bytes"]
    return whole


@pytest.mark.parametrize("plan", ["float32", "int8", "static_int8"])
def test_the_specification_is_enough(compressed, plan):
    path, _, _ = compressed
    assert whole_flatbuffer(read_container(path), plan) == runtime.flatbuffer(path, plan)
