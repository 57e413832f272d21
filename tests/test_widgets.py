"""One door to the five widgets: each with its still version beside it."""

import pytest

from clepdg_lib import widgets

PAIRS = {
    "explore_prompts": "render_prompt_results",
    "mix_environments": "render_environment",
    "view_contexts": "render_context",
    "explore_embeddings": "render_embedding_map",
    "try_your_voice": "render_voice",
}


@pytest.mark.parametrize(("widget", "still"), PAIRS.items())
def test_each_widget_has_a_still_version(widget, still):
    assert callable(getattr(widgets, widget)) and callable(getattr(widgets, still))
    assert widget in widgets.__doc__ and still in widgets.__doc__


def test_everything_offered_is_there():
    assert sorted(widgets.__all__) == widgets.__all__
    assert all(hasattr(widgets, name) for name in widgets.__all__)
