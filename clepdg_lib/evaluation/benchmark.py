"""The benchmark: every method and control, corpora, places and domains left out.

From the shipped features everything is trained live: `loco` leaves one of five real
corpora out; `shift` judges the same models on clips of that corpus in recorded places
that no training saw; `supervised` leaves speakers out; `lodo` leaves one domain of
emosynth out. Nothing of what is left out enters before it is judged; rows marked
transductive use its own unlabelled mean.

Shapes: n clips, D width of the tower, K contexts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from clepdg_lib.acpt import (
    ContextAugmentation,
    PlaceMap,
    contexts_from_words,
    fit_place_map,
    random_contexts,
    text_shifts,
    tune_contexts,
)
from clepdg_lib.captions import (
    EMOTIONS,
    ENVIRONMENT_PHRASES,
    TEMPLATES,
    emotion_sentences,
)
from clepdg_lib.clap import Clap, load_clap
from clepdg_lib.clep import (
    CaptionAttribute,
    TrainConfig,
    balanced_weights,
    emotion_labels,
    train_projection,
)
from clepdg_lib.corpora import load_corpus
from clepdg_lib.embeddings import embed_corpus
from clepdg_lib.evaluation.metrics import bootstrap_interval, uar, war
from clepdg_lib.evaluation.probes import fit_probe
from clepdg_lib.evaluation.real_speech import (
    BASELINES,
    CORPORA,
    RealSpeech,
    load_baseline,
    load_features,
)
from clepdg_lib.files import MissingFileError, versions
from clepdg_lib.transfer import (
    TextClassifier,
    fit_text_classifier,
    transductive_centre,
    zero_shot,
)

SETTINGS = ("loco", "shift", "supervised", "lodo")
N_NEAREST = 60  # captions that stand for a sentence about the place of use
LATENT = ("latent-random", "latent-written", "latent-published", "latent-captions")
LATENT += ("latent-shuffled", "clep-dg", "clep-dg-bank")
CONTROLS = ("latent-unconditional", "real-places", "consistency")  # one seed each
METHODS = {"loco": LATENT, "supervised": ("clep-dg",)}
METHODS["lodo"] = ("latent-random", "clep-dg")
# What is compared, per setting: a, then what it is compared with.
COMPARISONS = {
    "loco": {
        "text-classifier": ("egemaps-lr", "audioset-lr", "audio-probe"),
        "clep-dg": ("text-classifier", "latent-random"),
    },
    "shift": {
        "clep-dg": (
            "text-classifier",
            *(name for name in LATENT if name != "clep-dg"),
            *CONTROLS,
        ),
        "real-places": ("text-classifier",),
        "described": ("described-wrong",),
    },
    "supervised": {"clep-dg": ("text-classifier", "audio-probe")},
    "lodo": {"clep-dg": ("text-classifier", "latent-random")},
}


@dataclass(frozen=True)
class Predictions:
    """What a method predicts of some clips: `guess`, (n,) emotions, beside `clips`.

    `test` names what was left out, `seed` is that of contexts and augmentation;
    `transductive` says that the test set's own unlabelled mean was used.
    """

    method: str
    setting: str
    test: str
    seed: int
    clips: pd.DataFrame
    guess: np.ndarray
    transductive: bool = False

    def rows(self) -> list[dict[str, Any]]:
        """Scores; in setting `shift` one row per place and severity."""
        about = {k: v for k, v in vars(self).items() if k not in ("clips", "guess")}
        table = self.clips.assign(guess=self.guess, everything="")
        keys = ["place", "severity"] if self.setting == "shift" else ["everything"]
        rows = []
        for names, group in table.groupby(keys, sort=False):
            truth, guess = (group[c].to_numpy(str) for c in ("emotion", "guess"))
            where = dict(zip(keys, names, strict=True)) if len(keys) > 1 else {}
            scores = {"uar": uar(truth, guess), "war": war(truth, guess)}
            largest = group["guess"].value_counts(normalize=True).iloc[0]
            rows.append({**about, **where, **scores, "n": len(group)})
            rows[-1]["largest_share"] = float(largest)
        return rows


class TextSide:
    """All that is made of words alone, for one seed: the text tower never changes.

    Attributes:
        classifiers: Method -> classifier.
        tau: Name of a set of contexts -> (K, dim) text shifts; "captions" has all.
        attribute: Emotions with their sentences' embeddings; labels to be filled in.
    """

    def __init__(
        self, clap: Clap, pairs: RealSpeech, *, seed: int, shifts: Tensor | None = None
    ) -> None:
        captions = list(dict.fromkeys(pairs.clips["caption"]))
        shifts = text_shifts(clap, captions) if shifts is None else shifts
        contexts = {
            "random": random_contexts(clap, seed=seed),
            "written": contexts_from_words(clap, ENVIRONMENT_PHRASES),
            "published": tune_contexts(
                clap,
                EMOTIONS,
                steps=20,
                consistency=1.0,
                diversity=1.0,
                seed=seed,
                progress=False,
            ),
        }
        self.classifiers = {
            "clep-zero-shot": zero_shot(clap, EMOTIONS),
            "clep-zero-shot-ensemble": zero_shot(clap, EMOTIONS, templates=TEMPLATES),
            "text-classifier": fit_text_classifier(clap, EMOTIONS, seed=seed),
        }
        for name, context in contexts.items():
            self.classifiers[f"text-{name}"] = fit_text_classifier(
                clap, EMOTIONS, contexts=context, seed=seed
            )
        tuned = tune_contexts(
            clap,
            EMOTIONS,
            captions=captions,
            caption_shifts=shifts,
            seed=seed,
            progress=False,
        )
        contexts |= {"written": ENVIRONMENT_PHRASES, "tuned": tuned}
        self.tau = {name: text_shifts(clap, each) for name, each in contexts.items()}
        self.tau["captions"] = shifts
        self.rows = {caption: row for row, caption in enumerate(captions)}
        texts = [clap.embed_text(list(emotion_sentences(e))) for e in EMOTIONS]
        self.attribute = CaptionAttribute("emotion", texts, np.zeros(0, np.int64))

    def of_pairs(self, pairs: RealSpeech) -> Tensor:
        """Text shifts of pairs' captions, (P, dim)."""
        return self.tau["captions"][[self.rows[c] for c in pairs.clips["caption"]]]


class Fold:
    """One training set: trains CLEPs on it, with and without augmentation.

    Args:
        clap: Gives the text side.
        text: Of one seed.
        train: Labelled clean clips.
        pairs: Clips in simulated places with captions; labels are not used but by
            `real-places`.
        seed: Of G and of the augmentation.
        plain: The CLEP without augmentation, which no seed changes, if known.
    """

    plain: Clap | None = None

    def __init__(
        self,
        clap: Clap,
        text: TextSide,
        train: RealSpeech,
        pairs: RealSpeech,
        *,
        seed: int,
        plain: Clap | None = None,
    ) -> None:
        self.clap, self.text, self.train, self.pairs = clap, text, train, pairs
        self.seed, self.tau = seed, text.of_pairs(pairs)
        self.place_map = self.fit_map(self.tau)
        self.plain = plain or self.clep()

    def fit_map(self, tau: Tensor) -> PlaceMap:
        """G from the pairs, their captions' shifts being tau."""
        return fit_place_map(tau, self.pairs.clean, self.pairs.features, seed=self.seed)

    def clep(
        self,
        augment: Callable | None = None,
        *,
        unlabelled: bool = False,
        labelled: bool = False,
    ) -> Clap:
        """Train on the clean clips, perhaps beside augmented ones or the pairs.

        Args:
            augment: Bends the clean clips.
            unlabelled: Ask for the same predictions on both sides of the pairs.
            labelled: Learn from the pairs' clips in places with their labels.
        """
        parts, features = [self.train.clips], [self.train.features]
        # From the plain solution, a convex problem needs few iterations more.
        config = TrainConfig(max_iterations=25) if self.plain else TrainConfig()
        if unlabelled:
            parts.append(self.pairs.clips.assign(emotion=""))
            features.append(self.pairs.clean)
            bent = torch.cat([self.train.features, self.pairs.features])
            augment = lambda _features, _generator: bent  # noqa: E731
            config = replace(config, consistency=1.0)
        if labelled:
            parts.append(self.pairs.clips)
            features.append(self.pairs.features)
        weights = [balanced_weights(clips) for clips in parts]
        weights = torch.cat([part / part.sum() for part in weights])
        labels = emotion_labels(pd.concat(parts, ignore_index=True), EMOTIONS)
        return train_projection(
            self.clap,
            torch.cat(features),
            [replace(self.text.attribute, labels=labels, weights=weights)],
            config=config,
            augment=augment,
            start=self.plain,
            seed=self.seed,
            progress=False,
        )

    def bent(
        self, name: str, *, place_map: PlaceMap | None = None, bank: bool = False
    ) -> Clap:
        """A CLEP whose training is bent by a named set of contexts."""
        place_map = place_map or self.place_map
        tau = self.text.tau[name]
        return self.clep(ContextAugmentation(place_map, tau, residual_bank=bank))

    def train_method(self, method: str) -> Clap:
        """A method by its name in the tables."""
        if method == "latent-shuffled":  # tuned contexts, G of shuffled captions
            draw = torch.Generator().manual_seed(self.seed)
            mixed = self.tau[torch.randperm(len(self.tau), generator=draw)]
            return self.bent("tuned", place_map=self.fit_map(mixed))
        if method == "latent-unconditional":  # G is given no words
            return self.bent("tuned", place_map=self.fit_map(0 * self.tau))
        if method in ("clep-dg", "clep-dg-bank"):
            return self.bent("tuned", bank=method == "clep-dg-bank")
        if method in ("real-places", "consistency"):
            kind = "labelled" if method == "real-places" else "unlabelled"
            return self.clep(**{kind: True})
        if method.startswith("latent-"):
            return self.bent(method.removeprefix("latent-"))
        return self.plain

    def described(self, sentence: str) -> Clap:
        """A CLEP for a place described in a sentence: bent by the nearest captions."""
        wanted = F.normalize(text_shifts(self.clap, [sentence]), dim=-1)
        known = self.text.tau["captions"]
        near = (F.normalize(known, dim=-1) @ wanted[0]).topk(min(N_NEAREST, len(known)))
        return self.clep(ContextAugmentation(self.place_map, known[near.indices]))


def make_folds(
    setting: str, clips: pd.DataFrame, pairs: pd.DataFrame, *, seed: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """What is left out, in turn: its name, and masks of train, test and pairs.

    `loco` leaves out a corpus, `supervised` a fifth of a corpus's speakers, and `lodo`
    a domain of emosynth, judged on speakers of its test split.
    """
    if setting == "loco":
        for corpus in CORPORA:
            test = (clips["corpus"] == corpus).to_numpy()
            yield corpus, ~test, test, (pairs["corpus"] != corpus).to_numpy()
    elif setting == "lodo":
        split = clips["split"].to_numpy()
        for domain in sorted(set(clips["domain"])):
            here = (clips["domain"] == domain).to_numpy()
            train, test = ~here & (split == "train"), here & (split == "test")
            yield domain, train, test, np.ones(len(pairs), dtype=bool)
    else:
        for corpus in CORPORA:
            rows = np.flatnonzero(clips["corpus"] == corpus)
            own = clips.iloc[rows]
            n_folds = min(5, own["speaker"].nunique())
            folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
            for part, _ in folds.split(own, own["emotion"], own["speaker"]):
                train = np.isin(np.arange(len(clips)), rows[part])
                test = np.isin(np.arange(len(clips)), rows) & ~train
                known = pairs["speaker"].isin(clips["speaker"][train])
                yield corpus, train, test, known.to_numpy()


def run_protocol(
    clap: Clap,
    setting: str,
    *,
    seeds: Sequence[int],
    with_shift: bool = False,
    folder: str | Path | None = None,
    progress: bool = True,
) -> list[Predictions]:
    """Train and judge every method of a setting; with `loco`, perhaps `shift` too."""
    pairs = load_features("pairs", folder=folder)
    if setting == "lodo":
        corpus = load_corpus("emosynth").select(emotions=EMOTIONS)
        embedded = embed_corpus(clap, corpus, progress=progress)
        data = RealSpeech(embedded.features, embedded.clips)
    else:
        data = load_features("clean", folder=folder)
    predictions = _baselines(folder) if setting == "loco" else []
    shift = load_features("shift", folder=folder) if with_shift else None
    shifts, plain = None, {}
    for seed in seeds:
        text = TextSide(clap, pairs, seed=seed, shifts=shifts)
        shifts = text.tau["captions"]
        final = text.classifiers["text-classifier"]
        folds = list(make_folds(setting, data.clips, pairs.clips, seed=seed))
        bar = tqdm(folds, unit="fold", disable=not progress)
        for test, inside, outside, known in bar:
            bar.set_description(f"{setting}, seed {seed}, without {test}")
            train, judged = data.take(inside), data.take(outside)
            key = test if setting != "supervised" else None  # its folds differ
            fold = Fold(
                clap, text, train, pairs.take(known), seed=seed, plain=plain.get(key)
            )
            if key:
                plain[key] = fold.plain
            probe = fit_probe(
                train.features, train.clips["emotion"], corpora=train.clips["corpus"]
            )
            home = train.features.mean(dim=0)
            guesses = {"audio-probe": probe.predict}
            names = METHODS[setting]
            if setting == "loco" and seed == seeds[0]:
                names += CONTROLS
            models = [("clap-zero-shot", clap, text.classifiers["clep-zero-shot"])]
            models += [(name, fold.plain, c) for name, c in text.classifiers.items()]
            models += [(name, fold.train_method(name), final) for name in names]
            for name, model, classifier in models:
                guesses[name] = _predictor(model, classifier)
            for name, predict in guesses.items():
                for features, transductive in (
                    (judged.features, False),
                    (transductive_centre(judged.features, home=home), True),
                ):
                    guess = np.asarray(predict(features))
                    about = (name, setting, test, seed, judged.clips, guess)
                    predictions.append(Predictions(*about, transductive))
            if shift is not None:
                here = shift.take((shift.clips["corpus"] == test).to_numpy())
                predictions += _judge_places(fold, guesses, here, test=test)
    return predictions


def _predictor(model: Clap, classifier: TextClassifier) -> Callable:
    return lambda features: classifier.predict(model.project(features))


def _judge_places(
    fold: Fold, guesses: dict[str, Callable], here: RealSpeech, *, test: str
) -> list[Predictions]:
    """Judge the left-out corpus in recorded places; train for each as described."""
    final = fold.text.classifiers["text-classifier"]
    parts = [(name, predict, here) for name, predict in guesses.items()]
    places = here.clips.drop_duplicates("place")[["place", "sentence"]].to_numpy()
    for place, sentence in places:
        predict = _predictor(fold.described(sentence), final)
        inside = here.clips["place"].to_numpy() == place
        parts.append(("described", predict, here.take(inside)))
        parts.append(("described-wrong", predict, here.take(~inside)))
    about = ("shift", test, fold.seed)
    return [
        Predictions(name, *about, part.clips, np.asarray(predict(part.features)))
        for name, predict, part in parts
    ]


def run_benchmark(
    *,
    settings: Sequence[str] = SETTINGS,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    folder: str | Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Run the protocols asked for; return rows and paired comparisons.

    Args:
        settings: Some of `SETTINGS`; "shift" comes with "loco".
        seeds: Of contexts and augmentation.
        folder: Of the features; default ``data/real_speech``.
        progress: Show bars.

    Raises:
        ValueError: An unknown setting, or no seed.
    """
    if wrong := sorted(set(settings) - set(SETTINGS)):
        raise ValueError(f"settings are {wrong}; valid are {SETTINGS}")
    if not seeds:
        raise ValueError("there are no seeds; give at least one")
    clap, seeds = load_clap("clap-mini"), list(seeds)
    predictions: list[Predictions] = []
    wanted = ["loco" if setting == "shift" else setting for setting in settings]
    for setting in dict.fromkeys(wanted):
        predictions += run_protocol(
            clap,
            setting,
            seeds=seeds,
            with_shift=setting == "loco" and "shift" in settings,
            folder=folder,
            progress=progress,
        )
    predictions = [p for p in predictions if p.setting in settings]
    return {
        "model": "clap-mini",
        "seeds": seeds,
        "rows": [row for each in predictions for row in each.rows()],
        "comparisons": compare(predictions, settings),
        "made_with": versions(),
    }


def compare(
    predictions: Sequence[Predictions], settings: Sequence[str] = SETTINGS
) -> list[dict[str, Any]]:
    """Paired differences of mean UAR, with 95 % intervals.

    A clip's seeds, places and severities are averaged first. `ci_low` and `ci_high`
    draw clips; `wide_low` and `wide_high` draw corpora, speakers and clips.
    """
    results = []
    pairs = [
        (setting, a, b)
        for setting in settings
        for a, others in COMPARISONS[setting].items()
        for b in others
    ]
    for setting, a, b in pairs:
        tables = [_stack(predictions, setting, name) for name in (a, b)]
        if any(table is None for table in tables):
            continue
        common = tables[0].index.intersection(tables[1].index)
        clips = common.to_frame(index=False)
        guesses, baseline = (table.loc[common].to_numpy(str).T for table in tables)
        row: dict[str, Any] = {"a": a, "b": b, "setting": setting}
        for name, draw in (
            ("ci", ["clips"]),
            ("wide", ["corpora", "speakers", "clips"]),
        ):
            value, low, high = bootstrap_interval(
                clips["emotion"].to_numpy(),
                guesses,
                baseline=baseline,
                corpora=clips["corpus"].to_numpy(),
                speakers=clips["speaker"].to_numpy(),
                draw=draw,
            )
            row |= {"mean_difference": value}
            row |= {f"{name}_low": low, f"{name}_high": high}
        results.append(row)
    return results


def _stack(
    predictions: Sequence[Predictions], setting: str, method: str
) -> pd.DataFrame | None:
    """A method's predictions: a row a clip, a column a seed, place and severity."""
    parts = [
        p.clips[["corpus", "clip", "emotion", "speaker"]].assign(guess=p.guess)
        for p in predictions
        if (p.setting, p.method, p.transductive) == (setting, method, False)
    ]
    if not parts:
        return None
    table = pd.concat(parts, ignore_index=True)
    keys = ["corpus", "clip", "emotion", "speaker"]
    table["run"] = table.groupby(keys).cumcount()
    return table.pivot(index=keys, columns="run", values="guess").dropna(axis=1)


def _baselines(folder: str | Path | None) -> list[Predictions]:
    """Chance and the logistic regressions on audio features, a corpus left out."""
    predictions = []
    sources = {"chance": load_features("clean", folder=folder)}
    for name in BASELINES:
        with suppress(MissingFileError):
            sources[f"{name}-lr"] = load_baseline(name, folder=folder)
    for method, source in sources.items():
        corpora = source.clips["corpus"].to_numpy()
        for test in sorted(set(corpora), key=CORPORA.index):  # AudioSet lacks EmoTale
            train, judged = source.take(corpora != test), source.take(corpora == test)
            guess = np.full(len(judged), EMOTIONS[0])
            if method != "chance":
                clips = train.clips
                probe = fit_probe(
                    train.features, clips["emotion"], corpora=clips["corpus"]
                )
                guess = np.asarray(probe.predict(judged.features))
            about = (method, "loco", test, 0)
            predictions.append(Predictions(*about, judged.clips, guess))
    return predictions
