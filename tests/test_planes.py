"""A plane is fitted once; what is dropped onto it moves nothing else."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from stand_ins import embedded
from torch.nn import functional

from clepdg_lib.embedding import EmbeddedCorpus
from clepdg_lib.planes import draw_moves, fit_plane, moves_svg


def test_a_plane_is_the_pca_of_its_clips():
    clips = embedded()
    plane = fit_plane(clips)
    pca = PCA(2).fit(clips.embeddings.numpy())
    expected = pca.transform(clips.embeddings.numpy())
    for axis in (0, 1):  # either sign is right
        cosine = np.corrcoef(plane.points[:, axis], expected[:, axis])[0, 1]
        assert abs(cosine) == pytest.approx(1, abs=1e-4)
    assert plane.width == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-4)
    assert plane.points.shape == (24, 2)


def test_the_clips_themselves_fall_where_they_are():
    clips = embedded()
    plane = fit_plane(clips)
    assert np.allclose(plane.flatten(clips.embeddings), plane.points, atol=1e-5)


def test_the_sign_of_a_direction_does_not_depend_on_the_order_of_clips():
    clips = embedded()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    turned = EmbeddedCorpus(
        clips.embeddings[order], clips.clips.iloc[order.tolist()], clips.problems
    )
    first, second = fit_plane(clips).directions, fit_plane(turned).directions
    assert torch.allclose(first, second, atol=1e-4)


def test_a_move_is_drawn_with_its_name_and_its_title():
    plane = fit_plane(embedded())
    path = functional.normalize(torch.eye(2, 5) + 0.1, dim=1)
    figure = draw_moves(plane, {"hall": path, "you": path[:1]}, title="It moved 0.12")
    assert figure.get_suptitle() == "It moved 0.12"
    texts = {t.get_text() for t in figure.axes[0].texts}
    assert {"hall", "you"} <= texts
    svg = moves_svg(plane, path, alt="A path over a map")
    assert "<polyline" in svg and 'aria-label="A path over a map"' in svg


def test_two_clips_span_no_plane():
    clips = embedded().select(clip=["clip0<b>", "clip1<b>"])
    with pytest.raises(ValueError, match="at least 3 clips; there are 2"):
        fit_plane(clips)
