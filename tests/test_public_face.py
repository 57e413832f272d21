"""`import clepdg_lib` is light, silent and changes nothing; its names all exist."""

import subprocess
import sys

import pytest

import clepdg_lib

HEAVY = ("umap", "numba", "matplotlib", "seaborn", "sklearn", "ipywidgets", "IPython")
PROMISED = (
    "load_clap",
    "load_corpus",
    "finetune_clep",
    "tune_contexts",
    "fit_text_classifier",
)


def _run(code: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_importing_loads_nothing_heavy_and_says_nothing():
    code = "import sys, clepdg_lib; print(*[m for m in %r if m in sys.modules])"
    result = _run(code % (HEAVY + ("torch", "transformers"),))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""
    assert result.stderr == ""


def test_the_names_a_lesson_starts_with_load_nothing_heavy():
    code = (
        "import sys; from clepdg_lib import load_clap, load_corpus, place, uar; "
        "print(*[m for m in %r if m in sys.modules])"
    )
    result = _run(code % (("umap", "numba", "matplotlib", "seaborn", "ipywidgets"),))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""


def test_importing_seeds_nothing():
    code = (
        "import random, numpy; random.seed(1); numpy.random.seed(1); "
        "before = random.getstate(), numpy.random.get_state()[1].tolist(); "
        "import clepdg_lib; clepdg_lib.load_clap; "
        "after = random.getstate(), numpy.random.get_state()[1].tolist(); "
        "assert before == after"
    )
    result = _run(code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", clepdg_lib.__all__)
def test_every_public_name_is_there_and_explained(name):
    value = getattr(clepdg_lib, name)
    if callable(value):
        assert value.__module__.startswith("clepdg_lib.")
        assert value.__doc__, f"{name} has no docstring"


def test_the_face_is_small_sorted_and_holds_what_was_promised():
    names = clepdg_lib.__all__
    assert set(PROMISED) <= set(names)
    assert len(names) == len(set(names)) <= 25
    assert set(names) == set(clepdg_lib._HOME_OF)
    assert set(names) <= set(dir(clepdg_lib))


def test_an_unknown_name_is_an_attribute_error_that_lists_the_valid_ones():
    with pytest.raises(AttributeError, match="load_clapp.*load_clap"):
        _ = clepdg_lib.load_clapp
    with pytest.raises(ImportError):
        from clepdg_lib import load_clapp  # noqa: F401
