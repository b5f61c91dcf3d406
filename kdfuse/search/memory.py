"""Memory between trials: models hold each other in circles, which Python frees only when it looks for them."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def only_new() -> Iterator[None]:
    """Inside, `gc.collect()` looks at what was made inside: TensorFlow and what else was there before is a third of a second's work."""
    if gc.get_freeze_count():  # somebody does so already
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
