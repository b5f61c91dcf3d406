import logging
import os
import sys
import warnings

import pytest

from kdfuse.export.quiet import quiet


def test_nothing_is_shown_inside_and_everything_after(capfd):
    with quiet():
        print("python")
        print("python error", file=sys.stderr)
        os.write(1, b"C++ out\n")
        os.write(2, b"C++ error\n")
        warnings.warn("a warning", stacklevel=1)
        logging.getLogger("tensorflow").error("a log line")
    assert capfd.readouterr() == ("", "")
    print("after")
    os.write(2, b"after\n")
    assert capfd.readouterr() == ("after\n", "after\n")
    assert logging.getLogger("tensorflow").isEnabledFor(logging.ERROR)


def test_an_error_comes_out_and_the_output_is_back(capfd):
    with pytest.raises(ZeroDivisionError), quiet():
        os.write(1, b"lost\n")
        raise ZeroDivisionError
    os.write(1, b"kept\n")
    assert capfd.readouterr().out == "kept\n"
