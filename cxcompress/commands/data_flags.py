"""Flags that many commands have: what images there are, and how a network takes them."""

from __future__ import annotations

import argparse
from typing import Any

PREPROCESSINGS = ("auto", "0-1", "-1-1", "imagenet", "xrv", "none")


def add_generated_flags(parse: argparse.ArgumentParser) -> None:
    """`--count` and `--data_seed`."""
    add = parse.add_argument
    add("--count", type=int,
        help="images to generate, where --data_path is synthetic:… (its own default)")
    add("--data_seed", type=int, default=0, help="seed of generated images, and of a validation "
        "part that has to be held out (0)")


def add_input_flags(parse: argparse.ArgumentParser) -> None:
    """`--preprocessing` and `--classes`."""
    add = parse.add_argument
    add("--preprocessing", default="auto", choices=PREPROCESSINGS, help="as for compress.py (auto)")
    add("--classes", help="class names in the order of the model's outputs, comma-separated")


def add_data_flags(parse: argparse.ArgumentParser) -> None:
    """`--strict`, `--check_pictures`, `--uncertain` and `--columns`."""
    add = parse.add_argument
    add("--strict", action="store_true",
        help="refuse label tables with rows without images, images without rows, images named "
        "twice, unknown labels, unreadable images or patients in two parts; without it they are "
        "left out and counted")
    add("--check_pictures", choices=("auto", "pixels", "headers"), default="auto",
        help="how damaged pictures of a folder are found: pixels decodes each once, headers "
        "finds truncated ones; auto is pixels for up to 20,000 (auto)")
    add("--uncertain", choices=("ignore", "zeros", "ones"), default="ignore",
        help="what uncertain labels (-1, CheXpert) become: unknown and masked, absent, present "
        "(ignore)")
    add("--columns", help="columns of a table in no published layout: a .json file, or "
        "image=…,patient=…,labels=…,view=…,sex=…,age=…,split=… (data/mapped_table.py)")


def data_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the flags say, as keywords of `open_collection`.

    Raises:
        InputError: If `--columns` cannot be read.
    """
    columns = None
    if arguments.columns is not None:
        from cxcompress.data.mapped_table import column_map

        columns = column_map(arguments.columns)
    return {"strict": arguments.strict, "check": arguments.check_pictures,
            "uncertain": arguments.uncertain, "columns": columns}
