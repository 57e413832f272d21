"""The benchmark: every method and control, corpora, places and domains left out.

`loco` leaves one of five real corpora out; `shift` judges the same models on clips of
that corpus in recorded places (`recorded-place` alone trains there); `supervised`
leaves speakers out, `lodo` a domain of emosynth. Rows marked transductive use the own
unlabelled mean of what is left out; nothing else of it enters before it is judged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from itertools import groupby, product
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

from clepdg_lib import acpt, captions, clep
from clepdg_lib.acpt import ContextAugmentation, PlaceMap, text_shifts
from clepdg_lib.captions import EMOTIONS
from clepdg_lib.clap import Clap, load_clap
from clepdg_lib.corpora import load_corpus
from clepdg_lib.embeddings import embed_corpus
from clepdg_lib.evaluation import real_speech
from clepdg_lib.evaluation.metrics import bootstrap_interval
from clepdg_lib.evaluation.probes import fit_probe
from clepdg_lib.evaluation.real_speech import CORPORA, RealSpeech, load_features
from clepdg_lib.files import MissingFileError, versions
from clepdg_lib.transfer import fit_text_classifier, transductive_centre, zero_shot

N_NEAREST = 10  # captions that stand for a sentence about the place of use
SETTINGS = ("loco", "shift", "supervised", "lodo")
LATENT = ("latent-random", "latent-written", "latent-published", "latent-captions")
LATENT += ("latent-shuffled", "clep-dg")
CONTROLS = ("clep-dg-bank", "latent-unconditional", "real-places", "consistency")
METHODS = {"loco": LATENT, "supervised": ("clep-dg",)}  # CONTROLS: in one seed
METHODS["lodo"] = ("latent-random", "clep-dg")
KEYS = ["method", "setting", "test", "seed", "transductive", "place", "severity"]
# Setting -> method -> the others that it is compared with.
COMPARISONS = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))


def record(
    clips: pd.DataFrame, guess: np.ndarray, *, transductive: bool = False, **about: Any
) -> pd.DataFrame:
    """Predictions, a row each; `about` are method, setting, seed, test (left out)."""
    if about["setting"] != "shift":
        about |= {"place": "", "severity": 0}
    table = clips.assign(guess=guess, transductive=transductive, **about)
    return table[[*KEYS, "clip", "emotion", "speaker", "guess"]]


def score(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Score each method on what was left out; by place and severity in `shift`."""
    hits = table["guess"] == table["emotion"]
    table = table[[*KEYS, "emotion", "guess"]].astype("category").assign(war=hits)

    def by(*more: str) -> Any:
        return table.groupby([*KEYS, *more], observed=True, sort=False)

    def over(values: pd.Series) -> Any:
        return values.groupby(KEYS, observed=True, sort=False)

    scores = over(by("emotion")["war"].mean()).mean().rename("uar").to_frame()
    scores["war"], scores["n"] = by()["war"].mean(), by().size()
    scores["largest_share"] = over(by("guess").size()).max() / scores["n"]
    rows, nowhere = scores.reset_index(), {"place": "", "severity": 0}
    rows = rows.to_dict("records")
    return [{k: v for k, v in row.items() if nowhere.get(k) != v} for row in rows]


class TextSide:
    """All that is made of words alone, for one seed: the text tower never changes.

    `classifiers` by method, `tau` (text shifts by set of contexts, or by sentence about
    a place), and `attribute`: emotions, without labels yet.
    """

    def __init__(
        self,
        clap: Clap,
        shifts: pd.DataFrame,
        sentences: Sequence[str] = (),
        *,
        seed: int,
    ) -> None:
        texts, known = list(shifts.index), torch.tensor(shifts.to_numpy())
        how = {"seed": seed, "progress": False}
        alone = {"steps": 20, "consistency": 1.0, "diversity": 1.0}
        words = captions.ENVIRONMENT_PHRASES
        contexts = {"random": acpt.random_contexts(clap, seed=seed)}
        contexts["written"] = acpt.contexts_from_words(clap, words)
        contexts["published"] = acpt.tune_contexts(clap, EMOTIONS, **alone, **how)
        one = zero_shot(clap, EMOTIONS)
        many = zero_shot(clap, EMOTIONS, templates=captions.TEMPLATES)
        self.classifiers = {"clep-zero-shot": one, "clep-zero-shot-ensemble": many}
        for name, each in {"classifier": None, **contexts}.items():
            fitted = fit_text_classifier(clap, EMOTIONS, contexts=each, seed=seed)
            self.classifiers[f"text-{name}"] = fitted
        self.final = self.classifiers["text-classifier"]
        grounds = {"captions": texts, "caption_shifts": known}
        contexts["tuned"] = acpt.tune_contexts(clap, EMOTIONS, **grounds, **how)
        contexts["written"] = words  # whole, not cut to M tokens
        contexts |= {sentence: [sentence] for sentence in sentences}
        self.tau = {name: text_shifts(clap, each) for name, each in contexts.items()}
        self.tau["captions"], self.shifts = known, shifts
        texts = [clap.embed_text(list(captions.emotion_sentences(e))) for e in EMOTIONS]
        self.attribute = clep.CaptionAttribute("emotion", texts, np.zeros(0, np.int64))


class Fold:
    """One training set; labels of the pairs are used by `real-places` alone."""

    config = clep.TrainConfig()

    def __init__(
        self,
        clap: Clap,
        text: TextSide,
        train: RealSpeech,
        pairs: RealSpeech,
        seed: int,
        plain: Clap | None = None,  # the CLEP without augmentation, if it is known
        place_map: PlaceMap | None = None,  # G, if it is known
    ) -> None:
        self.clap, self.text, self.train, self.pairs = clap, text, train, pairs
        self.seed, self.plain = seed, plain
        self.place_map = place_map or fit_map(pairs, text.shifts, seed=seed)
        self.plain = plain or self.clep()

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
            parts, features = [*parts, labelled.clips], [*features, labelled.features]
        if unlabelled:
            parts.append(unlabelled.clips.assign(emotion=""))
            bent = torch.cat([*features, unlabelled.features])
            features.append(unlabelled.clean)
            augment = lambda _features, _generator: bent  # noqa: E731
            config = replace(config, consistency=1.0)
        weights = [clep.balanced_weights(clips) for clips in parts]
        weights = torch.cat([part / part.sum() for part in weights])
        labels = clep.emotion_labels(pd.concat(parts, ignore_index=True), EMOTIONS)
        attribute = replace(self.text.attribute, labels=labels, weights=weights)
        joined = torch.cat(features) if len(features) > 1 else features[0]
        how = {"config": config, "augment": augment, "start": self.plain}
        how |= {"seed": self.seed, "progress": False}
        return clep.train_projection(self.clap, joined, [attribute], **how)

    def bent(self, name: str, place_map: PlaceMap | None = None, **how: Any) -> Clap:
        """A CLEP whose training is bent by a set of contexts."""
        place_map = place_map or self.place_map
        return self.clep(ContextAugmentation(place_map, self.text.tau[name], **how))

    def described(self, sentence: str) -> Clap:
        """A CLEP for a place described in a sentence: bent by the nearest captions."""
        known, wanted = (F.normalize(self.text.tau[n]) for n in ("captions", sentence))
        nearest = (known @ wanted[0]).topk(min(N_NEAREST, len(known))).indices
        tau = self.text.tau["captions"][nearest]
        return self.clep(ContextAugmentation(self.place_map, tau))

    def train_method(self, method: str) -> Clap:
        """A method by its name in the tables."""
        pairs, shifts, seed = self.pairs, self.text.shifts, self.seed
        if method == "latent-shuffled":  # tuned contexts, G of shuffled captions
            return self.bent("tuned", fit_map(pairs, shifts, seed=seed, shuffled=True))
        if method == "latent-unconditional":  # G is given no words
            return self.bent("tuned", fit_map(pairs, 0 * shifts, seed=seed))
        if method in ("clep-dg", "clep-dg-bank"):
            return self.bent("tuned", residual_bank=method == "clep-dg-bank")
        if method == "real-places":
            return self.clep(labelled=self.pairs)
        if method == "consistency":
            return self.clep(unlabelled=self.pairs)
        return self.bent(method.removeprefix("latent-"))


def fit_map(
    pairs: RealSpeech, shifts: pd.DataFrame, *, shuffled: bool = False, **how: Any
) -> PlaceMap:
    """G from pairs, given the text shifts of their captions."""
    tau = torch.tensor(shifts.loc[pairs.clips["caption"]].to_numpy())
    if shuffled:
        draw = torch.Generator().manual_seed(how["seed"])
        tau = tau[torch.randperm(len(tau), generator=draw)]
    return acpt.fit_place_map(tau, pairs.clean, pairs.features, **how)


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
            own, others = clips.iloc[rows], (pairs["corpus"] != corpus).to_numpy()
            n_folds = min(5, own["speaker"].nunique())
            folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
            for part, _ in folds.split(own, own["emotion"], own["speaker"]):
                train = np.isin(np.arange(len(clips)), rows[part])
                test = np.isin(np.arange(len(clips)), rows) & ~train
                yield corpus, train, test, others


def run_benchmark(
    *,
    settings: Sequence[str] = SETTINGS,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    folder: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Run the protocols asked for; return rows and paired comparisons.

    Some of `SETTINGS` ("shift" comes with "loco"), from the features in `folder`
    (default ``data/real_speech``), by `jobs` processes (one for each core, up to
    eight). Seeds are of contexts, augmentation and the speakers that are left out.
    """
    if wrong := sorted(set(settings) - set(SETTINGS)):
        raise ValueError(f"settings are {wrong}; valid are {SETTINGS}")
    if not seeds:
        raise ValueError("there are no seeds; give at least one")
    jobs = jobs or min(joblib.cpu_count(), 8)
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    clap, clean, pairs, shift = _load(folder)
    phrases = list(dict.fromkeys(pairs.clips["caption"]))
    shifts = pd.DataFrame(text_shifts(clap, phrases).numpy(), index=phrases)
    wanted = {"loco" if setting == "shift" else setting for setting in settings}
    parts = []  # folds that leave out the same corpus, or domains, and their seeds
    for setting in (setting for setting in SETTINGS if setting in wanted):
        data = _domains(clap) if setting == "lodo" else clean
        for some in [seeds] if setting == "loco" else [[seed] for seed in seeds]:
            folds = make_folds(setting, data.clips, pairs.clips, seed=some[0])
            groups = groupby(folds, lambda fold: fold[3].tobytes())
            parts += [(setting, key, list(group), some, data) for key, group in groups]
    known = {(key, s): fs[0][3] for _, key, fs, some, _ in parts for s in some}
    made = [joblib.delayed(_text_side)(shifts, folder, seed) for seed in seeds]
    for (_, seed), mask in known.items():  # a G serves all that leave out the same
        made.append(joblib.delayed(_place_map)(shifts, folder, mask, seed))
    texts, maps = {}, {}
    for key, item in zip([*seeds, *known], parallel(made), strict=True):
        (maps if key in known else texts)[key] = item
    tasks = []
    for setting, key, folds, some, data in parts:  # a plain CLEP serves all seeds
        given = {seed: (texts[seed], maps[key, seed]) for seed in some}
        data = data if setting == "lodo" else None
        tasks.append(joblib.delayed(_judge_folds)(setting, folds, given, folder, data))
    if "loco" in wanted:
        tasks.insert(len(CORPORA), joblib.delayed(_baselines)(folder))
    done = tqdm(parallel(tasks), total=len(tasks), disable=not progress)
    tables, rows = zip(*done, strict=True)
    rows = [row for part in rows for row in part if row["setting"] in settings]
    compared = compare(pd.concat(tables, ignore_index=True), settings)
    result = {"model": "clap-mini", "seeds": list(seeds), "rows": rows}
    return result | {"comparisons": compared, "made_with": versions()}


@lru_cache(maxsize=2)
def _load(folder: str | Path | None) -> tuple[Clap, RealSpeech, RealSpeech, RealSpeech]:
    """Model, clips as recorded, pairs, clips in places: once a process."""
    clap, names = load_clap("clap-mini"), ("clean", "pairs", "shift")
    clean, pairs, shift = (load_features(name, folder=folder) for name in names)
    clap.refuse_other_tower(pairs)
    return clap, clean, pairs, shift


def _domains(clap: Clap) -> RealSpeech:
    embedded = embed_corpus(clap, load_corpus("emosynth").select(emotions=EMOTIONS))
    return RealSpeech(embedded.features, embedded.clips)


def _text_side(shifts: pd.DataFrame, folder: str | Path | None, seed: int) -> TextSide:
    clap, _, _, shift = _load(folder)
    return TextSide(clap, shifts, shift.clips["sentence"].unique(), seed=seed)


def _place_map(
    shifts: pd.DataFrame, folder: str | Path | None, known: np.ndarray, seed: int
) -> PlaceMap:
    return fit_map(_load(folder)[2].take(known), shifts, seed=seed)


def _judge_folds(
    setting: str,
    folds: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]],
    given: dict[int, tuple[TextSide, PlaceMap]],
    folder: str | Path | None,
    data: RealSpeech | None = None,  # other than the real corpora
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Train every method on folds and judge it; controls in the first seed alone."""
    clap, clean, all_pairs, shift = _load(folder)
    data = data or clean
    tables = []
    for (test, inside, outside, known), seed in product(folds, given):
        text, place_map = given[seed]
        if seed == next(iter(given)):
            pairs = all_pairs.take(known)
            train, judged = data.take(inside), data.take(outside)
            home, plain = train.features.mean(dim=0), None
            centred = transductive_centre(judged.features, home=home)
        fold = Fold(clap, text, train, pairs, seed, plain, place_map)
        guesses, clips = {}, train.clips
        controls = CONTROLS if plain is None and setting == "loco" else ()
        if plain is None:
            probe = fit_probe(train.features, clips["emotion"], corpora=clips["corpus"])
            guesses["audio-probe"] = probe.predict
        models = {"clap-zero-shot": (clap, text.classifiers["clep-zero-shot"])}
        models |= {name: (fold.plain, each) for name, each in text.classifiers.items()}
        for name in METHODS[setting] + controls:
            models[name] = fold.train_method(name), text.final
        for name, (model, classifier) in models.items():
            guesses[name] = partial(_predict, model, classifier)
        about = {"test": test, "seed": seed}
        for name, predict in guesses.items():
            for x in (judged.features, centred):
                own = {"method": name, "setting": setting, "transductive": x is centred}
                tables.append(record(judged.clips, predict(x), **own, **about))
        if setting == "loco":
            parts = _judge_places(fold, guesses, shift, test, recorded=plain is None)
            for name, part, guess in parts:
                own = {"method": name, "setting": "shift"}
                tables.append(record(part.clips, guess, **own, **about))
        plain = fold.plain
    return _scored(tables)


def _scored(tables: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, list[dict]]:
    """Join records: those that may be compared, and the scores of all."""
    table = pd.concat(tables, ignore_index=True)
    return table[~table["transductive"]], score(table)


def _predict(model: Clap, classifier: Any, features: Tensor) -> np.ndarray:
    return np.asarray(classifier.predict(model.project(features)))


def _judge_places(
    fold: Fold, guesses: dict, shift: RealSpeech, test: str, *, recorded: bool
) -> Iterator[tuple[str, RealSpeech, np.ndarray]]:
    """Judge in recorded places; train for each as described, or on recordings there."""
    here = shift.take((shift.clips["corpus"] == test).to_numpy())
    others = shift.take((shift.clips["corpus"] != test).to_numpy())
    for name, predict in guesses.items():
        yield name, here, predict(here.features)
    for place, sentence in here.clips.groupby("place")["sentence"].first().items():
        models = {"described": fold.described(sentence)}
        if recorded:
            rows = (others.clips["place"] == place).to_numpy()
            models["recorded-place"] = fold.clep(labelled=others.take(rows))
        true = (here.clips["place"] == place).to_numpy()
        for name, model in models.items():
            guess = _predict(model, fold.text.final, here.features)
            yield name, here.take(true), guess[true]
            yield f"{name}-wrong", here.take(~true), guess[~true]


def compare(table: pd.DataFrame, settings: Sequence[str]) -> list[dict[str, Any]]:
    """Paired differences of mean UAR of recorded predictions, with 95 % intervals.

    A clip's seeds, places and severities are averaged first. `ci_` bounds draw clips,
    `wide_` bounds what was left out, speakers and clips.
    """
    draws = {"ci": ["clips"], "wide": ["corpora", "speakers", "clips"]}
    pairs = [(s, a, b) for s in settings for a, o in COMPARISONS[s].items() for b in o]
    by_method, results = table.groupby(["setting", "method"], sort=False), []
    found = {key: _stack(part) for key, part in by_method}
    for setting, a, b in pairs:
        if not {(setting, a), (setting, b)} <= set(found):
            continue
        tables = found[setting, a], found[setting, b]
        common = tables[0].index.intersection(tables[1].index)
        clips = common.to_frame(index=False)
        guesses, baseline = (table.loc[common].to_numpy(str).T for table in tables)
        row: dict[str, Any] = {"a": a, "b": b, "setting": setting}
        how = {"corpora": clips["test"], "speakers": clips["speaker"]}
        pair, how = (clips["emotion"], guesses), how | {"baseline": baseline}
        for name, draw in draws.items():
            value, low, high = bootstrap_interval(*pair, draw=draw, **how)
            row |= {"mean_difference": value, f"{name}_low": low, f"{name}_high": high}
        results.append(row)
    return results


def _stack(table: pd.DataFrame) -> pd.DataFrame:
    """A method's predictions: a row a clip, a column a seed, place and severity."""
    keys = ["test", "clip", "emotion", "speaker"]
    table = table.assign(run=table.groupby(keys).cumcount())
    return table.pivot(index=keys, columns="run", values="guess").dropna(axis=1)


def _baselines(folder: str | Path | None) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Chance and the logistic regressions on audio features, a corpus left out."""
    sources = {"chance": load_features("clean", folder=folder)}
    for name in real_speech.BASELINES:
        with suppress(MissingFileError):
            sources[f"{name}-lr"] = load_features(name, folder=folder)
    tables = []
    for method, source in sources.items():
        corpora = source.clips["corpus"].to_numpy()
        for test in sorted(set(corpora), key=CORPORA.index):  # AudioSet lacks EmoTale
            train, judged = source.take(corpora != test), source.take(corpora == test)
            guess, clips = np.full(len(judged), EMOTIONS[0]), train.clips
            if method != "chance":
                labels = clips["emotion"]
                probe = fit_probe(train.features, labels, corpora=clips["corpus"])
                guess = np.asarray(probe.predict(judged.features))
            about = {"method": method, "setting": "loco", "test": test, "seed": 0}
            tables.append(record(judged.clips, guess, **about))
    return _scored(tables)
