"""Figures: one per kind, with title, units, fixed colours, and no trace in pyplot."""

import colorsys
import io
import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from clepdg_lib import plots

EMOTIONS = ("angry", "happy", "neutral", "sad")
DOMAINS = ("hall", "street", "studio")
TITLE = "Domain, not emotion, decides"
SCORES = pd.DataFrame(
    np.linspace(0.2, 0.8, 12).reshape(3, 4),
    index=["chance", "text-classifier", "clep-dg"],
    columns=["EMO-DB", "TESS", "nEMO", "own"],
)
INTERVALS = pd.DataFrame(
    {"value": [0.3, 0.5], "low": [0.25, 0.4], "high": [0.35, 0.6]},
    index=["random-contexts", "clep-dg"],
)
WAVE = 0.3 * torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)


def cloud(n: int = 60, *, seed: int = 0, dim: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator)


def labels(names: tuple[str, ...], n: int = 60) -> list[str]:
    return [names[i % len(names)] for i in range(n)]


FIGURES = {
    "embedding_map": lambda: plots.embedding_map(
        cloud(), labels(EMOTIONS), domains=labels(DOMAINS), title=TITLE
    ),
    "one panel": lambda: plots.embedding_map(cloud(), labels(EMOTIONS), title=TITLE),
    "moves": lambda: plots.embedding_map(
        cloud(),
        labels(EMOTIONS),
        outlined=(cloud(4, seed=3), EMOTIONS),
        moves={"hall": cloud(2, seed=1), "you": cloud(1, seed=2)},
        title=TITLE,
    ),
    "spectrogram": lambda: plots.spectrogram({"a": WAVE}, title=TITLE),
    "spectrograms": lambda: plots.spectrogram({"a": WAVE, "b": WAVE}, title=TITLE),
    "silence": lambda: plots.spectrogram({"": torch.zeros(9)}, title=TITLE),
    "heat_map": lambda: plots.heat_map(SCORES, label="cosine", title=TITLE),
    "score_bars": lambda: plots.score_bars(INTERVALS, chance=0.25, title=TITLE),
    "score_bars plain": lambda: plots.score_bars(
        INTERVALS[["value"]], title=TITLE, label="WAR", highlight=["clep-dg"]
    ),
    "score_dots": lambda: plots.score_dots(SCORES, highlight=["clep-dg"], title=TITLE),
    "score_dots chance": lambda: plots.score_dots(SCORES, chance=0.25, title=TITLE),
}
# What the axes of a figure say.
WORDS = {
    "spectrogram": {"time (s)", "frequency (Hz)", "level (dB)"},
    "heat_map": {"cosine"},
    "score_bars": {"UAR (dashed: chance)"},
    "score_bars plain": {"WAR"},
    "score_dots": {"UAR"},
    "score_dots chance": {"UAR (dashed: chance)"},
}


@pytest.mark.parametrize("kind", FIGURES)
def test_every_figure_has_its_message_one_width_and_leaves_pyplot_alone(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        figure = FIGURES[kind]()
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=100)
    assert isinstance(figure, Figure)
    assert figure.get_suptitle() == TITLE
    assert pyplot.get_fignums() == []
    assert 2_000 < len(content.getvalue()) < 200_000
    width, height = figure.get_size_inches()
    assert width == plots.WIDTH
    assert height <= 8
    axes = figure.axes
    written = {a.get_xlabel() for a in axes} | {a.get_ylabel() for a in axes}
    assert WORDS.get(kind, set()) <= written


STYLES = {kind: plots.styles(names) for kind, names in plots.COLOURS.items()}


def hues(looks: dict[str, dict[str, str]]) -> list[float]:
    found = (colorsys.rgb_to_hsv(*to_rgb(look["color"])) for look in looks.values())
    return [360 * hue for hue, saturation, _ in found if saturation > 0.1]


def test_no_hue_is_shared_between_kinds():
    for one, other in itertools.combinations(STYLES.values(), 2):
        gap = min(abs(a - b) for a in hues(one) for b in hues(other))
        assert gap > 10


DEUTAN = "0.367322 0.860646 -0.227968 0.280085 0.672501 0.047413"
DEUTAN += " -0.011820 0.042940 0.968881"
XYZ = "0.4124 0.3576 0.1805 0.2126 0.7152 0.0722 0.0193 0.1192 0.9505"


def seen(colour: str, *, deutan: bool) -> np.ndarray:
    """Return a colour in CIELAB as it is seen (Machado et al. 2009)."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    if deutan:
        linear = np.clip(np.array(DEUTAN.split(), float).reshape(3, 3) @ linear, 0, 1)
    xyz = np.array(XYZ.split(), float).reshape(3, 3) @ linear
    f = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", plots.COLOURS)
@pytest.mark.parametrize("deutan", [False, True])
def test_names_of_a_kind_stay_apart_for_every_colour_vision(kind, deutan):
    looks = STYLES[kind]
    assert len({look["marker"] for look in looks.values()}) == len(looks)
    colours = [seen(look["color"], deutan=deutan) for look in looks.values()]
    for one, other in itertools.combinations(colours, 2):
        assert np.linalg.norm(one - other) > 8


def test_a_name_looks_the_same_however_it_is_written_and_wherever_it_stands():
    assert plots.styles(["EMO-DB"])["EMO-DB"] == plots.styles(["x", "emodb"])["emodb"]
    room = plots.styles(["living-room", "hall"])["living-room"]
    assert plots.styles(["living room"], kind="environment") == {"living room": room}
    # Unknown names get looks of their kind that nobody has.
    names = ["sad", "nostalgic", *(f"other {i}" for i in range(30))]
    looks = plots.styles(names)
    assert len({tuple(look.values()) for look in looks.values()}) == len(names)
    speakers = plots.styles(["v01", "v02"])
    for kind, drawn in (("emotion", looks), ("method", speakers)):
        known = plots.COLOURS[kind].values()
        assert {look["color"] for look in drawn.values()} <= {*known}


def test_maps_draw_every_clip_in_its_style_with_legends_off_the_data():
    figure = FIGURES["embedding_map"]()
    panels = zip(figure.axes, (EMOTIONS, DOMAINS), figure.legends, strict=True)
    for axis, names, legend in panels:
        assert sum(len(c.get_offsets()) for c in axis.collections) == 60
        assert axis.get_legend() is None
        assert sorted(t.get_text() for t in legend.get_texts()) == sorted(names)
        colours = {tuple(c[:3]) for c in axis.collections[0].get_facecolors()}
        assert colours == {to_rgb(s["color"]) for s in plots.styles(names).values()}


def test_a_map_is_the_same_whatever_the_order_of_its_vectors():
    x = cloud().numpy()
    plane, turned = plots.pca_map(cloud()), plots.pca_map(x[::-1])
    assert np.allclose(plane.components_, turned.components_, atol=1e-6)
    assert (plane.components_.max(axis=1) == abs(plane.components_).max(axis=1)).all()
    figure = plots.embedding_map(x, labels(EMOTIONS), plane=plane, title=TITLE)
    drawn = figure.axes[0].collections[0].get_offsets()
    assert np.allclose(sorted(drawn[:, 0]), sorted(plane.transform(x)[:, 0]))


def test_a_spectrogram_shows_the_tone_at_its_frequency():
    image = FIGURES["spectrogram"]().axes[0].images[0]
    levels = np.asarray(image.get_array())[::-1]  # low frequencies first
    bottom, top = image.get_extent()[2:]
    row = levels.mean(axis=1).argmax()
    assert (top - bottom) * row / (len(levels) - 1) == pytest.approx(1000, abs=40)


def test_rows_are_sorted_and_whiskers_are_the_intervals():
    axis = FIGURES["score_bars"]().axes[0]
    names = [t.get_text() for t in axis.get_yticklabels()]
    assert names == ["clep-dg", "random-contexts"]
    assert axis.get_ylim() == (1.5, -0.5)  # the first row on top
    whiskers = next(c for c in axis.collections if hasattr(c, "get_segments"))
    ends = [segment[:, 0].tolist() for segment in whiskers.get_segments()]
    assert ends == [[0.4, 0.6], [0.25, 0.35]]
    axis = FIGURES["score_dots"]().axes[0]
    order = [t.get_text() for t in axis.get_yticklabels()]
    assert order == ["clep-dg", "text-classifier", "chance"]
    means = axis.collections[2].get_offsets()[:, 0]
    assert np.allclose(means, SCORES.mean(axis=1)[order])


def test_missing_values_are_left_out_and_bad_input_is_named():
    figure = plots.heat_map(SCORES.replace(0.2, np.nan), label="x", title=TITLE)
    assert len(figure.axes[0].texts) == 11
    with pytest.raises(ValueError, match="3 labels for 60 points"):
        plots.embedding_map(cloud(), ["sad"] * 3, title=TITLE)
    with pytest.raises(ValueError, match="at least 3"):
        plots.pca_map(cloud(2))
