"""The command line: a module a command, run as `cxcompress <name>` or `experiments/<name>.py`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "compress": "compress a Keras model and measure what that costs",
    "time_space_eval": "time and size of a compressed file beside its original",
    "autocompress": "the smallest file that is not inferior, found by search",
    "grid_search": "every combination of a grid of compressions; the smallest that is fit",
    "quantizer_sweep": "one network under every quantiser and number of levels",
    "fine_tuning_study": "what fine-tuning regains at fewer and fewer shared values",
    "prune": "prune a network one-shot, iteratively or layer by layer, and fine-tune it",
    "similarity": "how alike two networks' layers are (CKA), and pictures of filters and features",
    "architecture_study": "which network to compress: size, family, pretraining, dropped blocks",
    "truncate": "a network without its last blocks, compressed, beside the whole one",
    "localisation": "does a network look at the finding; full against truncated or compressed",
    "distill": "a small student taught by a large network, beside the same student without it",
    "collection": "check a collection of radiographs; its class counts and co-occurrence",
    "train": "train one of the built-in models on a collection",
    "train_seeds": "the same training with several seeds; the best on validation is kept",
    "adaptive_finetune": "pneumonia, cardiomegaly, 14 diseases in turn, against training direct",
    "compare_runs": "trained models side by side on the same test images",
    "split_train_val": "hold a validation part out of annotated fields, by patient",
    "preprocessing": "annotated fields at a network's size, with their density maps",
    "run_rmse_acc": "cells, patients' Ki-67 index and cut-offs of models beside the annotation",
    "reproduce_k256": "PathoNet under CWS, PWS, UQ and ECSQ at 256 values: the paper's table",
    "import_pathonet": "weights that the PathoNet compression scripts pickled, as a Keras model",
    "prune_sweep": "seeds × treatments of a network, every prediction stored once",
    "forgettability": "which findings a sweep's networks forget first",
    "exemplars": "images on which compressed networks and originals disagree",
    "reader_study": "make a reader study of exemplars, analyse its answers",
    "demo": "compress a bundled model on generated data and write a report",
    "info": "print what a compressed file says of itself: card, layers, plans",
    "predict": "find classes or cells in images with a compressed file, without TensorFlow",
    "bench": "latency, cold start and memory of a compressed file's plans on this machine",
    "export": "a compressed file as a .tflite or an ordinary Keras file",
    "report": "one page for whoever must approve a compressed model, from finished runs",
    "doctor": "versions, processor, memory, extras, and a self-test of the runtime",
    "app": "a page on which a compressed file looks at pictures",
}
GUARDED = ("info", "predict", "bench")
"""Commands that open files of others and need no TensorFlow: they run in a child with limits."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `cxcompress <name> …`; returns the exit status (0 done, 2 bad input, 130 interrupted)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: cxcompress <command> …\n")
        print("\n".join(f"  {name:18} {what}" for name, what in COMMANDS.items()))
        print("\ncxcompress <command> --help explains each. A research tool, not a medical device.")
        return 0 if argv else 2
    if argv[0] == "--version":
        from cxcompress import __version__

        print(__version__)
        return 0
    if argv[0] not in COMMANDS:
        print(f"cxcompress: no command {argv[0]!r}; there are: {', '.join(COMMANDS)}",
              file=sys.stderr)
        return 2

    def command() -> int:
        try:
            module = importlib.import_module(f"cxcompress.commands.{argv[0]}")
        except (ImportError, MemoryError) as error:
            from cxcompress.commands.command_line import OUT_OF_MEMORY
            from cxcompress.errors import out_of_memory

            if not out_of_memory(error):
                raise
            print(OUT_OF_MEMORY, file=sys.stderr)
            return 2
        return module.main(argv[1:])

    if argv[0] in GUARDED:
        from cxcompress.commands.guarded import guarded

        return guarded(command)
    return command()
