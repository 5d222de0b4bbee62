"""The one exception that a user's mistake raises, anywhere in the package.

Commands print its message as a single line on standard error and exit with status 2;
everything else that escapes is a fault of ours and keeps its traceback.
"""


class InputError(ValueError):
    """Bad input: a file, a flag or an array that cannot be used as given.

    The message is one line. It names the file or the flag, the value received and the mend.

    Example:
        >>> raise InputError("model.h5: not an HDF5 file; give a Keras .h5 or .keras")
    """

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).split()))


class MissingExtra(InputError):
    """An optional dependency is not installed; the message names the extra that brings it.

    Args:
        module: The module that could not be imported, e.g. `"skimage"`.
        extra: The extra of `setup.cfg` that installs it, e.g. `"pathology"`.
    """

    def __init__(self, module: str, extra: str):
        super().__init__(f"{module} is not installed; run: pip install 'cxcompress[{extra}]'")
