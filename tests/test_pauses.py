"""What stands when a widget is built is not looked through for garbage again."""

import gc
import weakref

import pytest

from clepdg_lib.pauses import without_pauses
from clepdg_lib.widgets import (
    explore_embeddings,
    explore_prompts,
    mix_environments,
    try_your_voice,
    view_contexts,
)


class Thing:
    """Something that refers to itself: garbage that only the collector finds."""

    def __init__(self):
        self.me = self


@pytest.fixture(autouse=True)
def _thaw():
    yield
    gc.unfreeze()


def _looked_at(thing):
    return any(found is thing for found in gc.get_objects())


def test_what_was_there_is_not_looked_at_again():
    @without_pauses
    def build(names):
        return Thing(), names

    kept = Thing()
    assert _looked_at(kept)
    built, names = build(["a"])
    assert names == ["a"] and build.__name__ == "build"
    assert not _looked_at(kept) and not _looked_at(built)
    later = Thing()
    assert _looked_at(later)


def test_old_garbage_goes_first_and_new_garbage_still_goes():
    old = weakref.ref(Thing())
    without_pauses(lambda: None)()
    assert old() is None
    new = weakref.ref(Thing())
    gc.collect()
    assert new() is None


def test_what_is_set_aside_is_freed_with_its_last_reference():
    kept = Thing()
    seen = weakref.ref(kept)
    without_pauses(lambda: None)()
    kept.me = None
    del kept
    assert seen() is None


@pytest.mark.parametrize(
    "build",
    [
        explore_embeddings,
        explore_prompts,
        mix_environments,
        try_your_voice,
        view_contexts,
    ],
)
def test_every_widget_is_built_so(build):
    assert build.__wrapped__.__name__ == build.__name__


def test_a_widget_leaves_nothing_to_look_through():
    kept = Thing()
    try_your_voice(None, {})
    assert not _looked_at(kept)
