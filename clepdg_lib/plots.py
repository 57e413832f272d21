"""Figures, each with its message for a title, readable by the colour-blind.

Every function returns a matplotlib ``Figure`` and shows nothing; hand it to
``lesson.show`` with its alternative text. No function touches pyplot's state, so
figures neither pile up in memory nor appear twice in a notebook.

Lesson: every notebook.
Shapes: n clips, m sentences, K contexts, E emotions, dim the embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch

from clepdg_lib.charts import (
    confusion_map,
    curve,
    distance_map,
    score_bars,
    score_dots,
    score_lines,
)
from clepdg_lib.style import (
    EMOTION_STYLE,
    EmotionStyle,
    cycle_styles,
    draw,
    emotion_style,
    heat,
    marker_legend,
    new_figure,
    set_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Vectors = torch.Tensor | np.ndarray
    Labels = Sequence[str] | np.ndarray | pd.Series


__all__ = [
    "EMOTION_STYLE",
    "EmotionStyle",
    "confusion_map",
    "contexts_map",
    "curve",
    "distance_map",
    "embedding_map",
    "emotion_style",
    "gap_map",
    "project",
    "score_bars",
    "score_dots",
    "score_lines",
    "set_style",
    "spectrogram",
]


def project(
    vectors: Vectors, *, method: Literal["pca", "umap"] = "pca", seed: int = 0
) -> np.ndarray:
    """Flatten embeddings to two dimensions, ``(n, dim)`` to ``(n, 2)``.

    UMAP (McInnes et al. 2018) bends space to keep neighbours together: its
    distances, sizes and gaps are not evidence, and its coordinates differ between
    systems. PCA (``"pca"``) only turns the space, and shows the two widest
    directions. Points of two dimensions are returned as they are.
    """
    points = np.asarray(vectors, dtype=np.float32)
    if points.ndim != 2 or len(points) < 3:
        raise ValueError(
            f"a map needs (n, dim) with n at least 3; got shape {points.shape}"
        )
    if points.shape[1] == 2:
        return points
    if method == "pca":
        from sklearn.decomposition import PCA

        return PCA(2, svd_solver="full").fit_transform(points)
    if method == "umap":
        import umap

        # n_jobs is given since UMAP warns when a seed forces it to one.
        return umap.UMAP(
            n_neighbors=min(15, len(points) - 1),
            metric="cosine",
            init="random" if len(points) < 10 else "spectral",
            random_state=seed,
            n_jobs=1,
        ).fit_transform(points)
    raise ValueError(f"method is {method!r}, but must be 'pca' or 'umap'")


def embedding_map(
    embeddings: Vectors,
    emotions: Labels,
    *,
    title: str,
    domains: Labels | None = None,
    method: Literal["pca", "umap"] = "pca",
    seed: int = 0,
) -> Figure:
    """Draw clips as points, by emotion and, if given, once more by domain.

    Args:
        embeddings: ``(n, dim)``, or ``(n, 2)`` if projected already.
        emotions: ``(n,)``.
        title: The message of the figure.
        domains: ``(n,)``; adds a panel with the same points coloured by domain.
        method: See :func:`project`.
        seed: Of UMAP, and of the order in which points are drawn.
    """
    points = project(embeddings, method=method, seed=seed)
    _check_length(emotions, name="emotions", n=len(points))
    n_panels = 1 if domains is None else 2
    figure, axes = new_figure(title, columns=n_panels, width=5.2 * n_panels, height=4.6)
    styles = {e: emotion_style(e) for e in sorted(set(emotions))}
    panels = [("by emotion", np.asarray(emotions), styles)]
    if domains is not None:
        _check_length(domains, name="domains", n=len(points))
        panels.append(("by domain", np.asarray(domains), cycle_styles(domains)))
    # One class after the other would hide whichever comes first.
    order = np.random.default_rng(seed).permutation(len(points))
    for axis, (name, labels, styles) in zip(axes, panels, strict=True):
        for part in np.array_split(order, min(20, len(order))):
            for label, style in styles.items():
                chosen = part[labels[part] == label]
                axis.scatter(*points[chosen].T, s=16, alpha=0.75, lw=0, **draw(style))
        marker_legend(axis, styles)
        _map_axes(axis, method="given" if np.shape(embeddings)[1] == 2 else method)
        axis.set_title(name)
    return figure


def gap_map(
    audio: Vectors,
    text: Vectors,
    *,
    title: str,
    audio_emotions: Labels,
    text_emotions: Labels,
) -> Figure:
    """Draw clips (small) and sentences (large, outlined) in one PCA.

    The arrow joins the mean of the clips and the mean of the sentences; the number
    on it is their distance in the original space.
    """
    audio, text = np.asarray(audio), np.asarray(text)
    points = project(np.concatenate([audio, text]))
    heard, read = points[: len(audio)], points[len(audio) :]
    figure, (axis,) = new_figure(title, width=6.4, height=4.6)
    styles = {e: emotion_style(e) for e in sorted({*audio_emotions, *text_emotions})}
    for emotion, style in styles.items():
        clips = heard[np.asarray(audio_emotions) == emotion]
        sentences = read[np.asarray(text_emotions) == emotion]
        axis.scatter(*clips.T, s=10, alpha=0.45, lw=0, **draw(style))
        axis.scatter(
            *sentences.T, s=90, edgecolors="black", lw=1, zorder=3, **draw(style)
        )
    distance = np.linalg.norm(audio.mean(axis=0) - text.mean(axis=0))
    start, end = heard.mean(axis=0), read.mean(axis=0)
    axis.annotate("", end, start, arrowprops={"arrowstyle": "<->", "lw": 1.5}, zorder=4)
    axis.annotate(
        f"gap {distance:.2f}",
        (start + end) / 2,
        bbox={"fc": "white", "ec": "none", "alpha": 0.85},
        ha="center",
        zorder=5,
    )
    marker_legend(axis, styles)
    _map_axes(axis, method="pca")
    axis.set_title("small: clips; large, outlined: sentences")
    return figure


def contexts_map(
    points: Vectors,
    emotions: Sequence[str],
    *,
    title: str,
    plain: Vectors | None = None,
) -> Figure:
    """Draw what contexts do to the emotion sentences, and how alike contexts are.

    Left, the ``K x E`` points in one PCA, numbered by context, beside the
    context-free sentences (large). Right, the cosine between the moves that two
    contexts make, averaged over emotions: off the diagonal, low is diverse.

    Args:
        points: ``(K, E, dim)`` from ``acpt.embed_contexts``.
        emotions: ``E`` labels.
        title: The message of the figure.
        plain: ``(E, dim)`` context-free sentences; None takes the mean context.
    """
    points = np.asarray(points, dtype=np.float32)
    n_contexts, n_emotions, dim = points.shape
    base = points.mean(axis=0) if plain is None else np.asarray(plain)
    flat = project(np.concatenate([points.reshape(-1, dim), base]))
    placed = flat[:-n_emotions].reshape(n_contexts, n_emotions, 2)
    figure, (left, right) = new_figure(title, columns=2, width=10.4, height=4.6)
    styles = {e: emotion_style(e) for e in emotions}
    for i, style in enumerate(styles.values()):
        left.scatter(*placed[:, i].T, s=45, alpha=0.8, lw=0, **draw(style))
        left.scatter(
            *flat[i - n_emotions], s=150, edgecolors="black", lw=1.2, **draw(style)
        )
        for k in range(n_contexts):
            left.annotate(
                str(k + 1),
                placed[k, i],
                xytext=(4, 3),
                textcoords="offset points",
                fontsize=7,
                color="#444444",
            )
    marker_legend(left, styles)
    _map_axes(left, method="pca")
    left.set_title("small: in a context; large: without")
    moves = torch.as_tensor(points - base)  # (K, E, dim)
    moves = torch.nn.functional.normalize(moves, dim=-1)
    alike = torch.einsum("ked,led->kl", moves, moves).numpy() / n_emotions
    names = [str(k + 1) for k in range(n_contexts)]
    heat(
        right,
        pd.DataFrame(alike, index=names, columns=names),
        label="cosine of moves",
        limits=(-1, 1),
        cmap="PuOr",
        annotate=n_contexts <= 8,
    )
    right.set(title="how alike contexts are", xlabel="context", ylabel="context")
    return figure


def spectrogram(
    waves: Vectors | Mapping[str, Vectors], *, title: str, sample_rate: int = 16_000
) -> Figure:
    """Draw one spectrogram, or several by name on one scale.

    Args:
        waves: ``(n,)`` samples, or name to samples; drawn side by side.
        title: The message of the figure.
        sample_rate: In hertz.
    """
    named = waves if isinstance(waves, Mapping) else {"": waves}
    rows = -(-len(named) // 3)
    columns = min(3, len(named))
    figure, axes = new_figure(
        title,
        rows=rows,
        columns=columns,
        width=max(6.4, 3.6 * columns),
        height=3 * rows,
    )
    n_fft, hop = 512, 160
    pictures = {}
    for name, wave in named.items():
        wave = torch.as_tensor(wave).float()
        window = torch.hann_window(n_fft)
        power = torch.stft(wave, n_fft, hop, window=window, return_complex=True)
        pictures[name] = 10 * power.abs().square().clamp_min(1e-8).log10().numpy()
    loudest = max(picture.max() for picture in pictures.values())
    for axis, (name, picture) in zip(axes, pictures.items(), strict=False):
        image = axis.imshow(
            picture - loudest,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=-80,
            vmax=0,
            extent=(0, picture.shape[1] * hop / sample_rate, 0, sample_rate / 2000),
        )
        axis.set(title=name, xlabel="time (s)", ylabel="frequency (kHz)")
    for axis in axes[len(named) :]:
        axis.remove()
    figure.colorbar(image, ax=axes[: len(named)], label="level (dB below the peak)")
    return figure


def _map_axes(axis: Axes, *, method: str) -> None:
    names = {"pca": "principal component", "umap": "UMAP dimension"}
    name = names.get(method, "dimension")
    axis.set(xlabel=f"{name} 1", ylabel=f"{name} 2")
    if method != "pca":  # only there do the numbers mean something
        axis.set(xticks=[], yticks=[])


def _check_length(labels: Labels, *, name: str, n: int) -> None:
    if len(labels) != n:
        raise ValueError(
            f"{name} has {len(labels)} entries, but there are {n} points; give one each"
        )
