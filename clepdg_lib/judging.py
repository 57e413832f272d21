"""Judge clips that nothing has heard, by every method: plain, shifted and centred.

Judges are fitted once, on sentences (and, for the reference, on training audio), and
then judge as many sets of clips as there are.

Lesson: notebooks/05_generalise_across_domains.ipynb
Shapes: n clips, E emotions, dim the embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from clepdg_lib.clap import Clap, EmbeddedCorpus
from clepdg_lib.corpora import EMOTIONS
from clepdg_lib.gap import close_gap, transductive_centre
from clepdg_lib.methods import METHODS, text_judges
from clepdg_lib.points import text_points
from clepdg_lib.probes import LinearProbe, fit_probe, linear_probe
from clepdg_lib.transfer import TextClassifier
from clepdg_lib.verdicts import Verdict

# How the recipe of a setting was chosen; `benchmark` says on whom. "Pooled": one recipe
# for all folds, so each corpus had a part in it; `selection` shows stricter rules.
SELECTED_BY = {"loco": "pooled-leave-two-out", "lodo": "leave-one-domain-out"}


@dataclass(frozen=True)
class Training:
    """What the training corpora tell about audio, and all that may be used of it.

    Attributes:
        mean: (dim,) mean embedding; closes the modality gap.
        probe: The audio-trained reference, or None.
    """

    mean: Tensor
    probe: LinearProbe | None = None

    @classmethod
    def of(cls, heard: EmbeddedCorpus) -> Training:
        """Take both from the training corpora's embeddings by the CLEP."""
        clips = heard.clips
        labels = clips["emotion"].to_numpy(dtype=str)
        probe = fit_probe(heard.embeddings, labels, corpora=clips["corpus"])
        return cls(heard.embeddings.mean(dim=0), probe)


@dataclass(frozen=True)
class Judges:
    """Every method, fitted and ready to judge.

    Attributes:
        by_method: Method -> what predicts, in the order of `METHODS`.
        clap_text: (dim,) mean of the sentences' points by the CLAP.
        clep_text: (dim,) the same by the CLEP.
        training: From the training corpora, or None.
        seed: Of contexts and classifiers.
    """

    by_method: dict[str, TextClassifier | LinearProbe]
    clap_text: Tensor
    clep_text: Tensor
    training: Training | None
    seed: int

    @classmethod
    def fit(
        cls,
        clap: Clap,
        clep: Clap,
        *,
        emotions: Sequence[str] = EMOTIONS,
        training: Training | None = None,
        seed: int = 0,
    ) -> Judges:
        """Fit all methods.

        Args:
            clap: Before fine-tuning.
            clep: After.
            emotions: E labels.
            training: From the training corpora; without it there are no rows of
                `audio-probe` and none with the modality gap closed.
            seed: Of contexts and classifiers.
        """
        emotions = tuple(emotions)
        judges: dict = text_judges(clap, clep, emotions, seed=seed)
        if training is not None and training.probe is not None:
            judges["audio-probe"] = training.probe
        ordered = {name: judges[name] for name in sorted(judges, key=METHODS.index)}
        means = (text_points(c, emotions).vectors.mean(dim=0) for c in (clap, clep))
        return cls(ordered, *means, training, seed)

    def judge(
        self,
        heard_by_clap: EmbeddedCorpus,
        heard_by_clep: EmbeddedCorpus,
        *,
        setting: str,
        test: str,
    ) -> list[Verdict]:
        """Judge n clips.

        Returns:
            A `Verdict` for each method; again with the gap closed by the mean of the
            training corpora; again, marked transductive, with the clips' own mean
            replaced by that of the training corpora's audio, which the CLEP learned
            to lay beside its sentences (for `clap-zero-shot`, which learned from none
            of it, by that of the sentences). `audio-probe` has no gap to close.
        """
        about = {"setting": setting, "test": test, "seed": self.seed}
        about["selection"] = SELECTED_BY.get(setting, "none")
        verdicts = []
        for method, judge in self.by_method.items():
            plain = method == "clap-zero-shot"
            mean_text = self.clap_text if plain else self.clep_text
            heard = heard_by_clap if plain else heard_by_clep
            home = mean_text
            ways: list[tuple[dict, Tensor]] = [({}, heard.embeddings)]
            if self.training is not None and not plain:
                home = self.training.mean
                if method != "audio-probe":
                    moved = close_gap(
                        heard.embeddings, mean_audio=home, mean_text=mean_text
                    )
                    ways.append(({"gap_correction": "mean-shift"}, moved))
            centred = transductive_centre(heard.embeddings, home=home)
            ways.append(({"transductive": True}, centred))
            truth = heard.clips["emotion"].to_numpy(dtype=str)
            for marks, points in ways:
                guess = judge.predict(points)
                verdicts.append(
                    Verdict(method, **about, truth=truth, guess=guess, **marks)
                )
        return verdicts


def judge_measurements(
    measured: np.ndarray,
    clips: pd.DataFrame,
    *,
    test: str,
    setting: str = "loco",
    method: str = "egemaps-lr",
    strength: float = 0.01,
) -> list[Verdict]:
    """Judge a corpus by a logistic regression on what was measured in the others.

    Args:
        measured: (n, d), for instance 88 eGeMAPS functionals, of all corpora.
        clips: n rows with the columns corpus and emotion.
        test: The corpus to leave out of training.
        setting: For the rows.
        method: For the rows, too.
        strength: Inverse of the L2 penalty.

    Returns:
        The method, and once more, transductive, each corpus by its own mean.
    """
    left_out = (clips["corpus"] == test).to_numpy()
    labels = clips["emotion"].to_numpy(dtype=str)
    centred = measured - pd.DataFrame(measured).groupby(
        clips["corpus"].to_numpy()
    ).transform("mean").to_numpy(dtype=measured.dtype)
    verdicts = []
    for values, transductive in ((measured, False), (centred, True)):
        guess = linear_probe(
            values[~left_out], labels[~left_out], values[left_out], strength=strength
        )
        verdicts.append(
            Verdict(
                *(method, setting, test, 0),
                truth=labels[left_out],
                guess=guess,
                transductive=transductive,
            )
        )
    return verdicts
