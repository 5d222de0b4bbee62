"""What all commands share: common flags, one-line errors and exit statuses."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from logging.handlers import MemoryHandler

from cxcompress.errors import InputError
from cxcompress.runs import current_command
from cxcompress.tensorflow_start import start_tensorflow as start_tensorflow  # for commands

INTERRUPTED = 130
OUT_OF_MEMORY = ("not enough memory: give a smaller --minibatch or --batch_size, fewer or smaller "
                 "images, or a machine or limit (ulimit -v) with more; the same command continues")
MOST_NOTES = 1000


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line on standard error, with exit status 2."""

    def error(self, message: str):
        raise InputError(f"{self.prog}: {message} (--help explains the flags)")


def parser(name: str, description: str, example: str) -> OneLineParser:
    """A parser with the flags that every command has: --seed, --output_path, --overwrite."""
    result = OneLineParser(
        prog=name, description=description, epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )
    result.add_argument("--seed", type=int, default=0,
                        help="seed of everything random; the same seed gives the same result (0)")
    result.add_argument("--output_path", default="results", help="folder for the results (results)")
    result.add_argument("--overwrite", action="store_true",
                        help="replace the finished or unfinished run that the folder holds")
    return result


def boolean(text: str) -> bool:
    """`True`/`False` on a command line, as the prior scripts take them."""
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"True or False, not {text!r}")


@contextmanager
def _notes_on_stderr() -> Iterator[None]:
    """Print what the package logs, and nothing of what its libraries warn of.

    Notes are printed at the end, and not at all before the one line of bad input.
    """
    handler = MemoryHandler(MOST_NOTES, logging.ERROR, logging.StreamHandler(sys.stderr), False)
    # Commands say it once for a model, in their notes; the quantizers say it at every fit.
    handler.addFilter(lambda record: record.levelno >= logging.WARNING
                      or not record.name.startswith("cxcompress.quantization"))
    logger = logging.getLogger("cxcompress")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    for noisy in ("absl", "tensorflow"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        handler.flush()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def run(
    parse: OneLineParser,
    command: Callable[[argparse.Namespace], None],
    argv: Sequence[str] | None,
) -> int:
    """Parse `argv`, run `command`; bad input and interrupts become one line and an exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    given = sys.argv[1:] if argv is None else argv
    named = current_command.set(shlex.join([parse.prog, *map(str, given)]))
    try:
        with _notes_on_stderr():
            command(parse.parse_args(argv))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues where it stopped", file=sys.stderr)
        return INTERRUPTED
    except MemoryError:
        print(OUT_OF_MEMORY, file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    finally:
        current_command.reset(named)
    return 0
