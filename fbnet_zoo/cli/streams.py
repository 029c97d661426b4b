"""The streams of the process, prepared before anything else opens a file."""

import io
import os
import sys


def open_streams() -> None:
    """Prepare the streams of this process for results with any text.

    A stream that the caller closed is opened to the null device, so that no file gets its descriptor; characters that
    a stream's encoding lacks are written as escapes.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
