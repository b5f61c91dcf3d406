import gc
import weakref

import pytest

from kdfuse.search.memory import only_new


class Circle:
    def __init__(self):
        self.own = self


def test_what_is_made_inside_is_freed_and_all_is_looked_at_again_afterwards():
    before = Circle()
    old = weakref.ref(before)
    with pytest.raises(RuntimeError), only_new():
        with only_new():  # a search in a search
            new = weakref.ref(Circle())
        gc.collect()
        assert new() is None and gc.get_freeze_count() > 0
        raise RuntimeError
    assert gc.get_freeze_count() == 0
    del before
    gc.collect()
    assert old() is None
