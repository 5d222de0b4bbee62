"""Which kernels are pruned, and which of them share one threshold.

    kernels = prunable_kernels(model, exclude=["predictions"])
    groups(kernels, "global")     # {"all": ["conv1/kernel", …]}: one threshold for all
    groups(kernels, "layer")      # one a kernel
    groups(kernels, "group")      # one a block: "block1", "conv2" (a dense block), "stage3", …
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np

from cxcompress.errors import InputError
from cxcompress.models.kernels import Kernel
from cxcompress.models.kernels import kernels as kernels_of
from cxcompress.pruning.scores import values_of

SCOPES = ("global", "layer", "group")
PRUNED_SHARE = 0.05
"""Share of exact zeros from which a model counts as pruned: training alone leaves next to none."""
SHARED_VALUES = 256
"""Distinct values up to which a kernel counts as quantised."""
LOOKED_AT = 4096
"""Weights of a kernel that are looked at to tell."""


def prunable_kernels(model: keras.Model, exclude: Iterable[str] = ()) -> list[Kernel]:
    """The model's kernels without the excluded ones, in network order.

    Args:
        model: Built.
        exclude: Layers or kernels, by name or path (`"predictions"`, `"block1/conv"`), or a
            family (`"depthwise"`, `"dense"`, `"conv"`).

    Raises:
        InputError: If an entry names nothing, or nothing is left.
    """
    found, left = kernels_of(model), []
    used = set()
    for kernel in found:
        entry = next((name for name in exclude if name == kernel.family
                      or f"/{name.strip('/')}/" in f"/{kernel.path}/"), None)
        if entry is None:
            left.append(kernel)
        else:
            used.add(entry)
    if unknown := [name for name in exclude if name not in used]:
        names = [kernel.layer_name for kernel in found]
        shown = ", ".join(names[:8]) + (f", … ({len(names)} in all)" if len(names) > 8 else "")
        raise InputError(f"--exclude {unknown[0]}: no layer with a kernel has this name; the "
                         f"layers are {shown}")
    if not left:
        raise InputError("--exclude names every layer with a kernel: nothing is left to prune")
    return left


def groups(kernels: Sequence[Kernel], scope: str,
           group_of: Callable[[Kernel], str] | None = None) -> dict[str, list[str]]:
    """Kernel paths by the group that shares a threshold, in network order.

    Args:
        kernels: As `prunable_kernels` gives them.
        scope: `"global"`, `"layer"`, or `"group"`.
        group_of: The name of a kernel's group; default `block_of`.

    Raises:
        InputError: If the scope is unknown.
    """
    if scope not in SCOPES:
        raise InputError(f"--scope {scope}: choose one of {', '.join(SCOPES)}")
    name_of = {"global": lambda kernel: "all", "layer": lambda kernel: kernel.path,
               "group": group_of or block_of}[scope]
    found: dict[str, list[str]] = {}
    for kernel in kernels:
        found.setdefault(name_of(kernel), []).append(kernel.path)
    return found


def block_of(kernel: Kernel) -> str:
    """The layer's name up to its first underscore, in front of it the models that it lies in.

    `conv2_block1_1_conv` of Keras' DenseNets is in dense block `conv2`, `pool2_conv` in transition
    `pool2`, `block1_conv1` of VGG16 in `block1`, `stage1_conv1` of `small_cxr` in `stage1`.
    """
    *inside, name = kernel.layer_name.split("/")
    return "/".join([*inside, name.split("_")[0]])


def check_dense(kernels: Sequence[Kernel], name: str = "the model") -> None:
    """Refuse a model that is pruned or quantised already.

    Args:
        kernels: Its kernels.
        name: Of the file, for the message.

    Raises:
        InputError: If a twentieth of all weights are exactly 0, or a kernel holds only a few
            distinct values.
    """
    zeros = total = 0
    for kernel in kernels:
        values = values_of(kernel)
        zeros += values.size - int(np.count_nonzero(values))
        total += values.size
        some = values.reshape(-1)[::max(1, values.size // LOOKED_AT)]
        some = some[some != 0]
        if some.size > 4 * SHARED_VALUES and np.unique(some).size <= SHARED_VALUES:
            raise InputError(f"{name}: {kernel.path} holds {np.unique(some).size} distinct values, "
                             "so it is quantised already; prune the float model, then quantise")
    if zeros >= PRUNED_SHARE * total:
        raise InputError(f"{name}: {zeros / total:.1%} of its weights are 0, so it is pruned "
                         "already; give the dense model, with the higher sparsity")
