"""Rebuild CLEP-DG: speech emotion recognition that survives new places.

An independent implementation written from the paper's abstract; the settings are
ours. A public name is imported from its module when it is first used (PEP 562), so
``import clepdg_lib`` costs nothing.

Example:
    >>> import clepdg_lib
    >>> "load_clap" in dir(clepdg_lib)
    True
"""

# ruff: noqa: F401 (these imports are for editors and type checkers)
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clepdg_lib.acpt import AcousticContexts, random_contexts, tune_contexts
    from clepdg_lib.audio import AudioError, place, read_audio
    from clepdg_lib.captions import EMOTIONS
    from clepdg_lib.clap import Clap, load_clap
    from clepdg_lib.clep import finetune_clep
    from clepdg_lib.corpora import Corpus, list_corpora, load_corpus
    from clepdg_lib.course.lesson import check, play, show, start_lesson
    from clepdg_lib.embeddings import embed_corpus
    from clepdg_lib.evaluation.metrics import uar, war
    from clepdg_lib.transfer import (
        TextClassifier,
        fit_text_classifier,
        modality_gap,
        zero_shot,
    )

__version__ = "0.2.0"
_HOMES = {
    "acpt": ("AcousticContexts", "random_contexts", "tune_contexts"),
    "audio": ("AudioError", "place", "read_audio"),
    "captions": ("EMOTIONS",),
    "clap": ("Clap", "load_clap"),
    "clep": ("finetune_clep",),
    "corpora": ("Corpus", "list_corpora", "load_corpus"),
    "course.lesson": ("check", "play", "show", "start_lesson"),
    "embeddings": ("embed_corpus",),
    "evaluation.metrics": ("uar", "war"),
    "transfer": ("TextClassifier", "fit_text_classifier", "modality_gap", "zero_shot"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}; "
            f"it has {', '.join(__all__)}"
        )
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value  # the second use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
