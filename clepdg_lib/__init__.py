"""Rebuild CLEP-DG: speech emotion recognition that survives new places.

An independent implementation written from the paper's abstract; the settings are
ours. The names below are the public face. Each is imported from its module when it
is first asked for, so ``import clepdg_lib`` costs nothing and changes nothing.

Example:
    >>> import clepdg_lib
    >>> "load_clap" in dir(clepdg_lib)
    True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clepdg_lib.acpt import AcousticContexts, random_contexts, tune_contexts
    from clepdg_lib.audio import AudioError, read_audio
    from clepdg_lib.clap import Clap, embed_corpus, load_clap
    from clepdg_lib.clep import finetune_clep
    from clepdg_lib.corpora import EMOTIONS, Corpus, list_corpora, load_corpus
    from clepdg_lib.environments import place
    from clepdg_lib.evaluation import uar, war
    from clepdg_lib.gap import modality_gap
    from clepdg_lib.lesson import check, play, show, start_lesson
    from clepdg_lib.transfer import TextClassifier, fit_text_classifier, zero_shot

__version__ = "0.1.0"
__all__ = [
    "EMOTIONS",
    "AcousticContexts",
    "AudioError",
    "Clap",
    "Corpus",
    "TextClassifier",
    "check",
    "embed_corpus",
    "finetune_clep",
    "fit_text_classifier",
    "list_corpora",
    "load_clap",
    "load_corpus",
    "modality_gap",
    "place",
    "play",
    "random_contexts",
    "read_audio",
    "show",
    "start_lesson",
    "tune_contexts",
    "uar",
    "war",
    "zero_shot",
]

_HOMES = {
    "acpt": ("AcousticContexts", "random_contexts", "tune_contexts"),
    "audio": ("AudioError", "read_audio"),
    "clap": ("Clap", "embed_corpus", "load_clap"),
    "clep": ("finetune_clep",),
    "corpora": ("EMOTIONS", "Corpus", "list_corpora", "load_corpus"),
    "environments": ("place",),
    "evaluation": ("uar", "war"),
    "gap": ("modality_gap",),
    "lesson": ("check", "play", "show", "start_lesson"),
    "transfer": ("TextClassifier", "fit_text_classifier", "zero_shot"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}; "
            f"it has {', '.join(__all__)}"
        )
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value  # the second look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
