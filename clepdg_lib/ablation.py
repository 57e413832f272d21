"""What each part of context tuning is worth: one thing changed at a time.

Tuning hears no audio, and a fine-tuning leaves the text tower as it was, so contexts
are tuned once for each seed and judge every left-out corpus, from the embeddings that
ship.

    python -m clepdg_lib benchmark --tier embeddings --setting ablation --json PATH

Lesson: notebooks/05_generalise_across_domains.ipynb
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from clepdg_lib.acpt import (
    AcousticContexts,
    contexts_from_words,
    random_contexts,
    tune_contexts,
)
from clepdg_lib.captions import ENVIRONMENT_PHRASES, TEMPLATES
from clepdg_lib.clap import Clap, load_clap
from clepdg_lib.corpora import EMOTIONS
from clepdg_lib.material import REAL
from clepdg_lib.methods import points_in_contexts
from clepdg_lib.points import TextPoints, balanced_weights, text_points
from clepdg_lib.real_speech import load_embeddings, shipped_seeds
from clepdg_lib.transfer import TextClassifier, fit_on_points
from clepdg_lib.verdicts import Verdict

AS_IT_IS = "as in clep-dg"
NONE, UNTUNED, ALONE = "no contexts", "untuned", "contexts alone"

# What is changed -> the settings of `tune_contexts`, or how to make the contexts.
Make = Callable[[Clap, int], AcousticContexts]
VARIANTS: Mapping[str, dict | Make] = {
    AS_IT_IS: {},
    UNTUNED: lambda clap, seed: random_contexts(clap, seed=seed),
    "no diversity loss": {"diversity": 0.0},
    "no consistency loss": {"consistency": 0.0},
    "contexts that confuse": {"consistency": -0.1},
    "1 context": {"n_contexts": 1},
    "4 contexts": {"n_contexts": 4},
    "64 contexts": {"n_contexts": 64},
    "1 token": {"n_tokens": 1},
    "16 tokens": {"n_tokens": 16},
    "temperature 0.02": {"temperature": 0.02},
    "temperature 1, as published": {"temperature": 1.0},
    "sequential, as published": {"schedule": "sequential", "n_drawn": None},
    "all emotions in each step": {"n_drawn": None},
    "200 steps": {"steps": 200},
    "another sentence": {"template": TEMPLATES[2]},
    "start from words": lambda clap, seed: tune_contexts(
        clap,
        EMOTIONS,
        init=contexts_from_words(clap, ENVIRONMENT_PHRASES),
        seed=seed,
        progress=False,
    ),
    "words, untuned": lambda clap, seed: contexts_from_words(clap, ENVIRONMENT_PHRASES),
}


def ablate(
    *,
    seeds: Iterable[int] | None = None,
    variants: Mapping[str, dict | Make] = VARIANTS,
) -> list[Verdict]:
    """Judge every left-out corpus by every variant of context tuning.

    Args:
        seeds: Of the shipped fine-tunings, and of the contexts; default all of them.
        variants: What to change.

    Returns:
        Verdicts of the setting "ablation", whose `method` names the change; first
        comes a classifier without contexts, last one that sees contexts only.

    Raises:
        MissingFileError: There are no embeddings here.
    """
    clap = load_clap("clap-mini")
    verdicts = []
    for seed in shipped_seeds() if seeds is None else seeds:
        judges = fit_variants(clap, variants, seed=seed)
        heard = {test: load_embeddings(f"clep-{seed}", corpora=test) for test in REAL}
        for name, judge in judges.items():
            for test, clips in heard.items():
                truth = clips.clips["emotion"].to_numpy(dtype=str)
                guess = judge.predict(clips.embeddings)
                verdicts.append(
                    Verdict(
                        name, "ablation", test, seed, truth, guess, selection="none"
                    )
                )
    return verdicts


def fit_variants(
    clap: Clap, variants: Mapping[str, dict | Make] = VARIANTS, *, seed: int = 0
) -> dict[str, TextClassifier]:
    """Fit a classifier for every variant; first one without contexts.

    Args:
        clap: Its text tower is all that is used.
        variants: What to change; with `AS_IT_IS` comes a last classifier, `ALONE`, that
            sees nothing but sentences in its contexts.
        seed: Of contexts and classifiers.
    """
    points = {NONE: text_points(clap, EMOTIONS)}
    for name, how in variants.items():
        points[name] = points_in_contexts(clap, _make(clap, how, seed), EMOTIONS)
    if AS_IT_IS in points:
        points[ALONE] = _second_half(points[AS_IT_IS], len(points[NONE].labels))
    return {
        name: fit_on_points(
            found.vectors,
            found.labels,
            emotions=EMOTIONS,
            weights=found.weights,
            seed=seed,
        )
        for name, found in points.items()
    }


def _make(clap: Clap, how: dict | Make, seed: int) -> AcousticContexts:
    if callable(how):
        return how(clap, seed)
    return tune_contexts(clap, EMOTIONS, seed=seed, progress=False, **how)


def _second_half(points: TextPoints, start: int) -> TextPoints:
    labels = points.labels[start:]
    weights = balanced_weights(labels, len(EMOTIONS))
    return TextPoints(points.vectors[start:], labels, weights)
