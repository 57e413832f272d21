"""Five things to play with, each made from a pure `render_...` function.

    explore_prompts      type or compose a prompt, hear what it finds
    mix_environments     dial a room, a noise, a telephone, see what moves
    view_contexts        step through acoustic contexts
    explore_embeddings   colour a map, pick a point
    try_your_voice       upload a recording

A still version (`render_prompt_results`, `render_environment`, `render_context`,
`render_embedding_map`, `render_voice`) gives the same picture without a browser, for
readers of a page and for tests. `python -m clepdg_lib widgets` measures how fast each
one answers.

Lesson: notebooks 01, 04, 03, 05 and 06, in this order
"""

from __future__ import annotations

from clepdg_lib.planes import Plane, draw_moves, fit_plane
from clepdg_lib.widgets_contexts import (
    ContextView,
    ReadContexts,
    read_contexts,
    render_context,
    view_contexts,
)
from clepdg_lib.widgets_map import (
    MapView,
    PreparedMap,
    colour_columns,
    explore_embeddings,
    prepare_map,
    render_embedding_map,
    thin_out,
)
from clepdg_lib.widgets_mixer import (
    EnvironmentResult,
    mix_environments,
    mix_place,
    render_environment,
)
from clepdg_lib.widgets_prompt import (
    PromptResults,
    compose_prompt,
    explore_prompts,
    render_prompt_results,
)
from clepdg_lib.widgets_voice import (
    VoiceResult,
    read_upload,
    render_voice,
    try_your_voice,
)

__all__ = [
    "ContextView",
    "EnvironmentResult",
    "MapView",
    "Plane",
    "PreparedMap",
    "PromptResults",
    "ReadContexts",
    "VoiceResult",
    "colour_columns",
    "compose_prompt",
    "draw_moves",
    "explore_embeddings",
    "explore_prompts",
    "fit_plane",
    "mix_environments",
    "mix_place",
    "prepare_map",
    "read_contexts",
    "read_upload",
    "render_context",
    "render_embedding_map",
    "render_environment",
    "render_prompt_results",
    "render_voice",
    "thin_out",
    "try_your_voice",
    "view_contexts",
]
