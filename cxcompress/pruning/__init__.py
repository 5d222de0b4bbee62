"""Pruning: which weights go (scores, scopes), when (strategies, schedules), and filters as a whole.

    from cxcompress.pruning import PruneDuringTraining
    model.fit(images, labels, callbacks=[PruneDuringTraining(schedule)])    # a tfmot schedule

    masks = prune(magnitude(model, kernels), 0.9, groups(kernels, "global"))
    apply(model, masks)

    smaller = prune_filters(model, 0.5)             # an ordinary, smaller Keras model
"""

from __future__ import annotations

from cxcompress.pruning.during_training import PruneDuringTraining
from cxcompress.pruning.filters import prune_filters
from cxcompress.pruning.holding import HoldMasks
from cxcompress.pruning.masks import (
    apply,
    masks_of,
    nonzeros,
    prune,
    read_masks,
    sparsity,
    write_masks,
)
from cxcompress.pruning.scopes import check_dense, groups, prunable_kernels
from cxcompress.pruning.scores import magnitude, random, taylor
from cxcompress.pruning.strategies import PruneInStages, Stage, gradually, stages

__all__ = ["HoldMasks", "PruneDuringTraining", "PruneInStages", "Stage", "apply", "check_dense",
           "gradually", "groups", "magnitude", "masks_of", "nonzeros", "prunable_kernels", "prune",
           "prune_filters", "random", "read_masks", "sparsity", "stages", "taylor", "write_masks"]
