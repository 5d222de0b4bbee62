"""The compressed `.h5` container: a verified HDF5 file, specified in `FORMAT.md`.

    write_container("model.h5", Container(shared, architecture, {}, card, "uCWS"))
    read_container("model.h5").shared.weights()
"""

from cxcompress.storage.container import (
    Container,
    ContainerSizes,
    Graph,
    is_container,
    read_card,
    read_container,
    read_sizes,
    write_container,
)
from cxcompress.storage.model_card import ModelCard

__all__ = [
    "Container",
    "ContainerSizes",
    "Graph",
    "ModelCard",
    "is_container",
    "read_card",
    "read_container",
    "read_sizes",
    "write_container",
]
