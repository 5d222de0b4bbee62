"""The one exception that a user's mistake raises, and how a lack of memory is told.

Commands print its message as a single line on standard error and exit with status 2;
everything else that escapes is a fault of ours and keeps its traceback.
"""


_LONGEST = 600


class InputError(ValueError):
    """Bad input: a file, a flag or an array that cannot be used as given.

    The message is one line of at most 600 characters. It names the file or the flag, the value
    received and the mend. What a file says may be in it, so signs that a terminal would obey are
    written as escapes, and the middle of what is too long is left out.

    Example:
        >>> raise InputError("model.h5: not an HDF5 file; give a Keras .h5 or .keras")
    """

    def __init__(self, message: str):
        line = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode()
                       for sign in " ".join(str(message).split()))
        if len(line) > _LONGEST:
            line = f"{line[:_LONGEST - 200]} … {line[-197:]}"
        super().__init__(line)


class MissingExtra(InputError):
    """An optional dependency is not installed; the message names the extra that brings it.

    Args:
        module: The module that could not be imported, e.g. `"skimage"`.
        extra: The extra of `setup.cfg` that installs it, e.g. `"pathology"`.
    """

    def __init__(self, module: str, extra: str):
        super().__init__(f"{module} is not installed; run: pip install 'cxcompress[{extra}]'")


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception, or what it came of, says that there was too little memory.

    Under `ulimit -v` libraries that cannot be mapped raise ImportError.
    """
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, ImportError | OSError) and any(
                sign in str(error) for sign in ("failed to map segment", "annot allocate memory"))):
            return True
        error = error.__cause__ or error.__context__
    return False
