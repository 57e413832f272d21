"""Figures: one per kind, with titles, units, markers, and no trace in pyplot."""

import io
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure

from clepdg_lib import plots
from clepdg_lib.evaluation import confusion

EMOTIONS = ("angry", "happy", "neutral", "sad")
DOMAINS = ("hall", "street", "studio")
TITLE = "Domain, not emotion, decides"


def cloud(n: int = 60, *, seed: int = 0, dim: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator)


def labels(names: tuple[str, ...], n: int = 60) -> list[str]:
    return [names[i % len(names)] for i in range(n)]


def table() -> pd.DataFrame:
    rows = ["chance", "text-classifier", "clep-dg"]
    values = np.linspace(0.2, 0.8, 12).reshape(3, 4)
    return pd.DataFrame(values, index=rows, columns=["EMO-DB", "TESS", "nEMO", "own"])


def intervals() -> pd.DataFrame:
    return pd.DataFrame(
        {"value": [0.3, 0.5], "low": [0.25, 0.4], "high": [0.35, 0.6]},
        index=["random-contexts", "clep-dg"],
    )


def wave() -> torch.Tensor:
    return 0.3 * torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)


def history() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "loss": [3.0, 2.0, 1.5],
            "validation_uar": [0.3, None, 0.5],
        }
    )


FIGURES = {
    "embedding_map": lambda: plots.embedding_map(
        cloud(), labels(EMOTIONS), domains=labels(DOMAINS), title=TITLE
    ),
    "one panel": lambda: plots.embedding_map(cloud(), labels(EMOTIONS), title=TITLE),
    "gap_map": lambda: plots.gap_map(
        cloud(),
        cloud(8, seed=1) + 1,
        audio_emotions=labels(EMOTIONS),
        text_emotions=labels(EMOTIONS, 8),
        title=TITLE,
    ),
    "contexts_map": lambda: plots.contexts_map(
        cloud(20).reshape(5, 4, 12), EMOTIONS, title=TITLE
    ),
    "contexts_map plain": lambda: plots.contexts_map(
        cloud(40).reshape(10, 4, 12), EMOTIONS, plain=cloud(4, seed=2), title=TITLE
    ),
    "spectrogram": lambda: plots.spectrogram(wave(), title=TITLE),
    "spectrograms": lambda: plots.spectrogram(
        {name: wave() for name in ("a", "b", "c", "d")}, title=TITLE
    ),
    "curve": lambda: plots.curve(history(), title=TITLE),
    "confusion_map": lambda: plots.confusion_map(
        confusion(labels(EMOTIONS), labels(EMOTIONS[::-1])), title=TITLE
    ),
    "distance_map": lambda: plots.distance_map(
        pd.DataFrame(np.eye(3), index=DOMAINS, columns=DOMAINS), title=TITLE
    ),
    "score_bars": lambda: plots.score_bars(intervals(), chance=0.25, title=TITLE),
    "score_bars plain": lambda: plots.score_bars(
        intervals()[["value"]], title=TITLE, label="WAR"
    ),
    "score_dots": lambda: plots.score_dots(table(), chance=0.25, title=TITLE),
    "score_lines": lambda: plots.score_lines(
        table().set_axis([1, 2, 3]),
        low=table().set_axis([1, 2, 3]) - 0.1,
        high=table().set_axis([1, 2, 3]) + 0.1,
        chance=0.25,
        title=TITLE,
    ),
}


@pytest.mark.parametrize("kind", FIGURES)
def test_every_figure_has_its_message_and_leaves_pyplot_alone(kind):
    figure = FIGURES[kind]()
    assert isinstance(figure, Figure)
    assert figure.get_suptitle() == TITLE
    assert pyplot.get_fignums() == []
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    assert 2_000 < len(picture.getvalue()) < 200_000
    width, height = figure.get_size_inches()
    assert width <= 12
    assert height <= 8


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("embedding_map", {"principal component 1", "principal component 2"}),
        ("spectrogram", {"time (s)", "frequency (kHz)", "level (dB below the peak)"}),
        ("curve", {"epoch", "loss", "validation uar"}),
        ("confusion_map", {"true", "predicted", "share of the true emotion"}),
        ("distance_map", {"proxy A-distance"}),
        ("score_bars", {"UAR"}),
        ("score_bars plain", {"WAR"}),
        ("score_dots", {"UAR"}),
        ("score_lines", {"severity", "UAR"}),
    ],
)
def test_axes_say_what_they_measure(kind, words):
    axes = FIGURES[kind]().axes
    found = {a.get_xlabel() for a in axes} | {a.get_ylabel() for a in axes}
    assert words <= found


def test_emotions_differ_by_colour_and_by_marker():
    styles = plots.EMOTION_STYLE
    assert set(EMOTIONS) <= set(styles)
    assert len({style.colour for style in styles.values()}) == len(styles)
    assert len({style.marker for style in styles.values()}) == len(styles)
    own = plots.emotion_style("nostalgic")
    assert own == plots.emotion_style("nostalgic")
    assert own.marker and own.colour.startswith("#")


def test_shared_emotions_stay_apart_in_grey():
    # Printed without colour, or seen with none, brightness and marker remain.
    def brightness(colour):
        red, green, blue = matplotlib.colors.to_rgb(colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for emotion in EMOTIONS:
        assert brightness(plots.EMOTION_STYLE[emotion].colour) < 0.6  # on white


def test_maps_draw_every_clip_in_its_emotion():
    figure = plots.embedding_map(
        cloud(), labels(EMOTIONS), domains=labels(DOMAINS), title=TITLE
    )
    for axis, names in zip(figure.axes, (EMOTIONS, DOMAINS), strict=True):
        drawn = sum(len(c.get_offsets()) for c in axis.collections)
        assert drawn == 60
        assert [t.get_text() for t in axis.get_legend().get_texts()] == list(names)


def test_pca_keeps_what_two_dimensions_can_and_ready_points_pass():
    flat = torch.zeros(10, 5)
    flat[:, 1] = torch.arange(10.0)
    points = plots.project(flat)
    assert points.shape == (10, 2)
    assert np.ptp(points[:, 0]) == pytest.approx(9, abs=1e-4)
    assert np.abs(points[:, 1]).max() < 1e-4
    assert np.array_equal(plots.project(cloud(5, dim=2)), cloud(5, dim=2).numpy())


def test_umap_is_seeded_and_keeps_neighbours():
    points = torch.cat([cloud(15, dim=6) * 0.1, cloud(15, dim=6) * 0.1])
    points[:15, 0] += 3
    points[15:, 1] += 3
    first = plots.project(points, method="umap", seed=1)
    assert first.shape == (30, 2)
    assert np.array_equal(first, plots.project(points, method="umap", seed=1))
    two = first[:15].mean(0), first[15:].mean(0)
    nearest = [np.linalg.norm(p - m, axis=0) for p in first[:15] for m in two]
    near, far = np.array(nearest).reshape(15, 2).T
    assert (near < far).all()


def test_gap_on_the_picture_is_that_of_the_original_space():
    audio, text = torch.zeros(4, 12), torch.zeros(4, 12)
    audio[:, 0] = torch.tensor([0.9, 1.1, 1.0, 1.0])
    text[:, 0] = torch.tensor([2.4, 2.6, 2.5, 2.5])
    figure = plots.gap_map(
        audio, text, audio_emotions=EMOTIONS, text_emotions=EMOTIONS, title=TITLE
    )
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert "gap 1.50" in texts


def test_spectrogram_shows_the_tone_at_its_frequency():
    axis = plots.spectrogram(wave(), title=TITLE).axes[0]
    image = axis.images[0]
    levels = np.asarray(image.get_array())
    left, right, bottom, top = image.get_extent()
    row = levels.mean(axis=1).argmax()
    assert (top - bottom) * row / (len(levels) - 1) == pytest.approx(1.0, abs=0.05)
    assert right == pytest.approx(1.0, abs=0.05)
    assert levels.max() == pytest.approx(0)


def test_curve_skips_missing_values_and_dots_mark_the_mean():
    line = plots.curve(history(), title=TITLE).axes[1].lines[0]
    assert line.get_xdata().tolist() == [1, 3]
    axis = plots.score_dots(table(), title=TITLE).axes[0]
    means = axis.collections[-1].get_offsets()[:, 0]
    assert np.allclose(means, table().mean(axis=1))
    assert [t.get_text() for t in axis.get_yticklabels()] == list(table().index)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="3 entries, but there are 60"):
        plots.embedding_map(cloud(), ["sad"] * 3, title=TITLE)
    with pytest.raises(ValueError, match="'pca' or 'umap'"):
        plots.project(cloud(), method="tsne")
    with pytest.raises(ValueError, match="at least 3"):
        plots.project(cloud(2))


def test_style_is_set_on_demand_only():
    code = (
        "import sys, clepdg_lib.plots as p; "
        "heavy = {'matplotlib', 'seaborn', 'umap', 'sklearn'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with matplotlib.rc_context():
        plots.set_style()
        assert matplotlib.rcParams["axes.spines.top"] is False
