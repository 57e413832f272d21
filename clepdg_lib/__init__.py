"""Rebuild CLEP-DG: speech emotion recognition that survives new places.

An independent implementation written from the paper's abstract; the settings are
ours. A public name is imported from its module when it is first used (PEP 562), so
``import clepdg_lib`` costs nothing.
"""

import getpass
import os
from importlib import import_module
from typing import Any

try:
    getpass.getuser()
except (KeyError, OSError, ImportError):  # as in many containers: torch would stop
    os.environ["USER"] = "unknown"
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
        raise AttributeError(f"{__name__} has no attribute {name!r}; it has {__all__}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
