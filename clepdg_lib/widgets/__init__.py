"""Five widgets, each a thin shell around a pure `render_...` function."""

# ruff: noqa: F401 (these names are what a lesson imports from here)
from clepdg_lib.widgets.contexts import render_context, view_contexts
from clepdg_lib.widgets.maps import explore_embeddings, render_embedding_map
from clepdg_lib.widgets.places import mix_environments, render_environment
from clepdg_lib.widgets.prompts import explore_prompts, render_prompt_results
from clepdg_lib.widgets.voice import render_voice, try_your_voice
