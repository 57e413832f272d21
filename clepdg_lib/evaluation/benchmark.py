"""The benchmark: every method and control, corpora, places and domains left out.

From the shipped features everything is trained live: `loco` leaves one of five real
corpora out; `shift` judges the same models on clips of that corpus in recorded places
(`recorded-place` alone trains there); `supervised` leaves speakers out, `lodo` a domain
of emosynth. Nothing of what is left out enters before it is judged; rows marked
transductive use its own unlabelled mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import joblib
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
from clepdg_lib.evaluation.metrics import bootstrap_interval
from clepdg_lib.evaluation.probes import fit_probe
from clepdg_lib.evaluation.real_speech import (
    BASELINES,
    CORPORA,
    RealSpeech,
    load_baseline,
    load_features,
)
from clepdg_lib.files import MissingFileError, versions
from clepdg_lib.transfer import fit_text_classifier, transductive_centre, zero_shot

N_NEAREST = 10  # captions that stand for a sentence about the place of use
SETTINGS = ("loco", "shift", "supervised", "lodo")
LATENT = ("latent-random", "latent-written", "latent-published", "latent-captions")
LATENT += ("latent-shuffled", "clep-dg")
CONTROLS = ("clep-dg-bank", "latent-unconditional", "real-places", "consistency")
METHODS = {"loco": LATENT, "supervised": ("clep-dg",)}  # CONTROLS: in one seed
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
        "recorded-place": ("recorded-place-wrong",),
    },
    "supervised": {"clep-dg": ("text-classifier", "audio-probe")},
    "lodo": {"clep-dg": ("text-classifier", "latent-random")},
}


@dataclass(frozen=True)
class Predictions:
    """What a method predicts of some clips."""

    method: str
    setting: str
    test: str  # what was left out
    seed: int  # of contexts and augmentation
    clips: pd.DataFrame
    guess: np.ndarray  # (n,) emotions
    transductive: bool = False  # the test set's own unlabelled mean was used

    def rows(self) -> list[dict[str, Any]]:
        """Scores; in setting `shift` one row per place and severity."""
        about = {k: v for k, v in vars(self).items() if k not in ("clips", "guess")}
        keys = ["place", "severity"] if self.setting == "shift" else ["setting"]
        table = self.clips.assign(guess=self.guess, setting=self.setting)
        table["war"] = table["guess"] == table["emotion"]  # a mean of hits, as UAR is
        recalls = table.groupby([*keys, "emotion"])["war"].mean()
        scores = recalls.groupby(keys).mean().rename("uar").to_frame()
        scores["war"] = table.groupby(keys)["war"].mean()
        scores["n"] = table.groupby(keys).size()
        guesses = table.groupby([*keys, "guess"]).size().groupby(keys).max()
        scores["largest_share"] = guesses / scores["n"]
        return [about | row for row in scores.reset_index().to_dict("records")]


class TextSide:
    """All that is made of words alone, for one seed: the text tower never changes.

    From text shifts of captions (a row each, by caption) and sentences about places
    come `classifiers` by method, `tau` (text shifts by name of a set of contexts, or by
    sentence), and `attribute`: emotions, without labels yet.
    """

    def __init__(
        self,
        clap: Clap,
        shifts: pd.DataFrame,
        sentences: Sequence[str] = (),
        *,
        seed: int,
    ) -> None:
        captions, known = list(shifts.index), torch.tensor(shifts.to_numpy())
        how = {"seed": seed, "progress": False}
        alone = {"steps": 20, "consistency": 1.0, "diversity": 1.0}
        contexts = {
            "random": random_contexts(clap, seed=seed),
            "written": contexts_from_words(clap, ENVIRONMENT_PHRASES),
            "published": tune_contexts(clap, EMOTIONS, **alone, **how),
        }
        one = zero_shot(clap, EMOTIONS)
        many = zero_shot(clap, EMOTIONS, templates=TEMPLATES)
        self.classifiers = {"clep-zero-shot": one, "clep-zero-shot-ensemble": many}
        for name, each in {"classifier": None, **contexts}.items():
            fitted = fit_text_classifier(clap, EMOTIONS, contexts=each, seed=seed)
            self.classifiers[f"text-{name}"] = fitted
        grounds = {"captions": captions, "caption_shifts": known}
        contexts["tuned"] = tune_contexts(clap, EMOTIONS, **grounds, **how)
        contexts |= {"written": ENVIRONMENT_PHRASES}  # whole, not cut to M tokens
        contexts |= {sentence: [sentence] for sentence in sentences}
        self.tau = {name: text_shifts(clap, each) for name, each in contexts.items()}
        self.tau["captions"], self.shifts = known, shifts
        texts = [clap.embed_text(list(emotion_sentences(e))) for e in EMOTIONS]
        self.attribute = CaptionAttribute("emotion", texts, np.zeros(0, np.int64))


class Fold:
    """One training set: trains CLEPs on it, with and without augmentation.

    Labels of the pairs, clips in simulated places, are used by `real-places` alone.
    """

    config = TrainConfig()
    plain: Clap | None = None  # the CLEP without augmentation

    def __init__(
        self,
        clap: Clap,
        text: TextSide,
        train: RealSpeech,
        pairs: RealSpeech,
        seed: int,
    ) -> None:
        self.clap, self.text, self.train, self.pairs = clap, text, train, pairs
        self.seed = seed
        self.tau = torch.tensor(text.shifts.loc[pairs.clips["caption"]].to_numpy())
        self.place_map = self.fit_map(self.tau)
        self.plain = self.clep()

    def fit_map(self, tau: Tensor) -> PlaceMap:
        """G from the pairs, their captions' shifts being tau."""
        return fit_place_map(tau, self.pairs.clean, self.pairs.features, seed=self.seed)

    def clep(
        self,
        augment: Callable | None = None,
        *,
        labelled: RealSpeech | None = None,
        unlabelled: RealSpeech | None = None,
    ) -> Clap:
        """Train on the clean clips, bent or not, and perhaps on others.

        `labelled` clips weigh as much, together; the predictions on both sides of
        `unlabelled` pairs shall be the same.
        """
        parts, features = [self.train.clips], [self.train.features]
        # From the plain solution, a convex problem needs few iterations more.
        iterations = 12 if self.plain else self.config.max_iterations
        config = replace(self.config, max_iterations=iterations)
        if labelled:
            parts.append(labelled.clips)
            features.append(labelled.features)
        if unlabelled:
            parts.append(unlabelled.clips.assign(emotion=""))
            bent = torch.cat([*features, unlabelled.features])
            features.append(unlabelled.clean)
            augment = lambda _features, _generator: bent  # noqa: E731
            config = replace(config, consistency=1.0)
        weights = [balanced_weights(clips) for clips in parts]
        weights = torch.cat([part / part.sum() for part in weights])
        labels = emotion_labels(pd.concat(parts, ignore_index=True), EMOTIONS)
        return train_projection(
            self.clap,
            torch.cat(features) if len(features) > 1 else features[0],
            [replace(self.text.attribute, labels=labels, weights=weights)],
            config=config,
            augment=augment,
            start=self.plain,
            seed=self.seed,
            progress=False,
        )

    def bent(
        self, name: str, place_map: PlaceMap | None = None, **options: Any
    ) -> Clap:
        """A CLEP whose training is bent by a set of contexts."""
        place_map = place_map or self.place_map
        return self.clep(ContextAugmentation(place_map, self.text.tau[name], **options))

    def described(self, sentence: str) -> Clap:
        """A CLEP for a place described in a sentence: bent by the nearest captions."""
        known, wanted = (F.normalize(self.text.tau[n]) for n in ("captions", sentence))
        nearest = (known @ wanted[0]).topk(min(N_NEAREST, len(known))).indices
        tau = self.text.tau["captions"][nearest]
        return self.clep(ContextAugmentation(self.place_map, tau))

    def train_method(self, method: str) -> Clap:
        """A method by its name in the tables."""
        if method == "latent-shuffled":  # tuned contexts, G of shuffled captions
            draw = torch.Generator().manual_seed(self.seed)
            mixed = self.tau[torch.randperm(len(self.tau), generator=draw)]
            return self.bent("tuned", self.fit_map(mixed))
        if method == "latent-unconditional":  # G is given no words
            return self.bent("tuned", self.fit_map(0 * self.tau))
        if method in ("clep-dg", "clep-dg-bank"):
            return self.bent("tuned", residual_bank=method == "clep-dg-bank")
        if method == "real-places":
            return self.clep(labelled=self.pairs)
        if method == "consistency":
            return self.clep(unlabelled=self.pairs)
        return self.bent(method.removeprefix("latent-"))


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


def run_benchmark(
    *,
    settings: Sequence[str] = SETTINGS,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    folder: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Run the protocols asked for; return rows and paired comparisons.

    Args:
        settings: Some of `SETTINGS`; "shift" comes with "loco".
        seeds: Of contexts and augmentation; the first alone where nothing is left out
            but speakers or domains.
        folder: Of the features; default ``data/real_speech``.
        jobs: Processes; default one for each core, at most eight.
        progress: Show bars.

    Raises:
        ValueError: An unknown setting, or no seed.
    """
    if wrong := sorted(set(settings) - set(SETTINGS)):
        raise ValueError(f"settings are {wrong}; valid are {SETTINGS}")
    if not seeds:
        raise ValueError("there are no seeds; give at least one")
    jobs = jobs or min(joblib.cpu_count(), 8)
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    clap, _, pairs, shift = _load("loco", folder)
    captions = list(dict.fromkeys(pairs.clips["caption"]))
    shifts = pd.DataFrame(text_shifts(clap, captions).numpy(), index=captions)
    sides = (joblib.delayed(_text_side)(shifts, folder, seed) for seed in seeds)
    texts = dict(zip(seeds, parallel(sides), strict=True))
    tasks, predictions = [], []
    wanted = ["loco" if setting == "shift" else setting for setting in settings]
    for setting in dict.fromkeys(wanted):
        data = _load(setting, folder)[1]
        if setting == "loco":
            predictions += _baselines(folder)
        for seed in seeds if setting == "loco" else seeds[:1]:
            for fold in make_folds(setting, data.clips, pairs.clips, seed=seed):
                first = seed == seeds[0]
                tasks.append((setting, fold, texts[seed], seed, first, folder))
    done = parallel(joblib.delayed(_judge_fold)(*task) for task in tasks)
    rows = [row for each in predictions for row in each.rows()]
    for part, scores in tqdm(done, total=len(tasks), disable=not progress):
        predictions, rows = predictions + part, rows + scores
    return {
        "model": "clap-mini",
        "seeds": list(seeds),
        "rows": [row for row in rows if row["setting"] in settings],
        "comparisons": compare(predictions, settings),
        "made_with": versions(),
    }


@lru_cache(maxsize=4)
def _load(setting: str, folder: str | Path | None) -> tuple:
    """Model, clips to train on and to judge, pairs, clips in places: once a process."""
    clap = load_clap("clap-mini")
    pairs, shift = (load_features(c, folder=folder) for c in ("pairs", "shift"))
    if setting != "lodo":
        return clap, load_features("clean", folder=folder), pairs, shift
    embedded = embed_corpus(clap, load_corpus("emosynth").select(emotions=EMOTIONS))
    return clap, RealSpeech(embedded.features, embedded.clips), pairs, shift


def _text_side(shifts: pd.DataFrame, folder: str | Path | None, seed: int) -> TextSide:
    clap, _, _, shift = _load("loco", folder)
    return TextSide(clap, shifts, shift.clips["sentence"].unique(), seed=seed)


def _judge_fold(
    setting: str,
    masks: tuple[str, np.ndarray, np.ndarray, np.ndarray],
    text: TextSide,
    seed: int,
    first: bool,
    folder: str | Path | None,
) -> tuple[list[Predictions], list[dict[str, Any]]]:
    """Train every method on one fold and judge it; controls in the first seed alone."""
    clap, data, pairs, shift = _load(setting, folder)
    test, inside, outside, known = masks
    train, judged = data.take(inside), data.take(outside)
    fold = Fold(clap, text, train, pairs.take(known), seed)
    emotions, corpora = train.clips["emotion"], train.clips["corpus"]
    guesses = {
        "audio-probe": fit_probe(train.features, emotions, corpora=corpora).predict
    }
    final = text.classifiers["text-classifier"]

    def add(name, model, classifier=final):
        guesses[name] = lambda x: classifier.predict(model.project(x))

    add("clap-zero-shot", clap, text.classifiers["clep-zero-shot"])
    for name, classifier in text.classifiers.items():
        add(name, fold.plain, classifier)
    controls = CONTROLS if first and setting == "loco" else ()
    for name in METHODS[setting] + controls:
        add(name, fold.train_method(name))
    home = train.features.mean(dim=0)
    centred = transductive_centre(judged.features, home=home)
    predictions = [
        Predictions(name, setting, test, seed, judged.clips, predict(x), x is centred)
        for name, predict in guesses.items()
        for x in (judged.features, centred)
    ]
    if setting == "loco":
        predictions += _judge_places(fold, guesses, shift, test, first)
    return predictions, [row for each in predictions for row in each.rows()]


def _judge_places(
    fold: Fold,
    guesses: dict[str, Callable],
    shift: RealSpeech,
    test: str,
    first: bool,
) -> list[Predictions]:
    """Judge the left-out corpus in recorded places; train for each as described."""
    here = shift.take((shift.clips["corpus"] == test).to_numpy())
    others = shift.take((shift.clips["corpus"] != test).to_numpy())
    final = fold.text.classifiers["text-classifier"]
    parts = [(name, predict, here) for name, predict in guesses.items()]
    for place, sentence in here.clips.groupby("place")["sentence"].first().items():
        models = {"described": fold.described(sentence)}
        if first:  # how much knowing the place is worth: labelled recordings made in it
            rows = (others.clips["place"] == place).to_numpy()
            models["recorded-place"] = fold.clep(labelled=others.take(rows))
        rows = (here.clips["place"] == place).to_numpy()
        for name, model in models.items():
            predict = lambda x, model=model: final.predict(model.project(x))  # noqa: E731
            parts.append((name, predict, here.take(rows)))
            parts.append((f"{name}-wrong", predict, here.take(~rows)))
    return [
        Predictions(name, "shift", test, fold.seed, part.clips, predict(part.features))
        for name, predict, part in parts
    ]


def compare(
    predictions: Sequence[Predictions], settings: Sequence[str] = SETTINGS
) -> list[dict[str, Any]]:
    """Paired differences of mean UAR, with 95 % intervals.

    A clip's seeds, places and severities are averaged first. `ci_low` and `ci_high`
    draw clips; `wide_low` and `wide_high` what was left out, speakers and clips.
    """
    results = []
    pairs = [
        (setting, a, b)
        for setting in settings
        for a, others in COMPARISONS[setting].items()
        for b in others
    ]
    stack = cache(partial(_stack, predictions))
    for setting, a, b in pairs:
        tables = [stack(setting, name) for name in (a, b)]
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
                corpora=clips["test"].to_numpy(),
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
    keys = ["test", "clip", "emotion", "speaker"]
    parts = [
        p.clips[keys[1:]].assign(test=p.test, guess=p.guess)
        for p in predictions
        if (p.setting, p.method, p.transductive) == (setting, method, False)
    ]
    if not parts:
        return None
    table = pd.concat(parts, ignore_index=True)
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
