"""Inside a corpus: other speakers of the same recordings, clean and in worse places.

`supervise` is the easy setting that the field reports first: train on some speakers of
a corpus, test on the others. `shift_places` turns one thing alone: a model that was
trained on clean clips meets new speakers as recorded, and then the very same clips in
five environments at three severities. A second model, which heard places in training,
says what hearing them is worth.

    CLEPDG_CORPORA=... python -m clepdg_lib benchmark --setting supervised --json PATH
    CLEPDG_CORPORA=... python -m clepdg_lib benchmark --setting shift --json PATH

Lesson: notebooks/05_generalise_across_domains.ipynb
Shapes: n clips.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from clepdg_lib.benchmark import LOCO_RECIPE, train_once
from clepdg_lib.clap import Clap, EmbeddedCorpus, embed_corpus
from clepdg_lib.contrast import Recipe
from clepdg_lib.corpora import EMOTIONS, Corpus, join_corpora, load_corpus
from clepdg_lib.environments import ENVIRONMENTS, place
from clepdg_lib.folds import leave_groups_out
from clepdg_lib.judging import Judges, Training, judge_measurements
from clepdg_lib.material import REAL, Material, prepare
from clepdg_lib.pictures import clip_generator
from clepdg_lib.verdicts import Verdict, summarise

N_FOLDS = 4  # or one for each speaker, of whom TESS has two
SEVERITIES = (1.0, 2.0, 3.0)
N_SHIFTED = 200  # clips of a corpus's test speakers that are put into every place
NO_PROBLEMS = pd.DataFrame(columns=["path", "problem"])


def supervise(
    clap: Clap,
    *,
    names: Sequence[str] = REAL,
    seeds: Iterable[int] = (0,),
    recipe: Recipe = LOCO_RECIPE,
    work: Path | None = None,
    progress: bool = True,
) -> list[Verdict]:
    """Test every speaker of each corpus by a CLEP that learned from other speakers.

    Each fold's CLEP is asked twice: to tell all emotions of the corpus apart
    ("supervised") and the four shared ones ("supervised-shared"). Verdicts hold the
    folds one after the other, so that each clip is judged once.

    Args:
        clap: Where every fine-tuning starts.
        names: Corpora.
        seeds: All folds anew for each; the speakers are divided alike.
        recipe: Of the fine-tuning.
        work: Folder that keeps finished models.
        progress: Show bars.

    Raises:
        CorpusError: A corpus is not found.
    """
    verdicts, seeds = [], list(seeds)
    for name in names:
        material = prepare(load_corpus(name), clap, progress=progress)
        material = material.select(_readable(material))
        by_clap = embed_corpus(clap, material.corpus, progress=progress)
        speakers = material.corpus.clips["speaker"]
        n_folds = min(N_FOLDS, speakers.nunique())
        for seed in seeds:
            parts: list[list[Verdict]] = []
            for i, fold in enumerate(leave_groups_out(speakers, n_folds=n_folds)):
                train = np.isin(np.arange(len(speakers)), fold.train)
                known = material.select(train)
                clep = train_once(
                    *(clap, lambda known=known: [known]),
                    name=f"inside-{name}-{i}",
                    emotions=known.corpus.emotions,
                    recipe=recipe,
                    seed=seed,
                    work=work,
                    progress=progress,
                )
                by_clep = embed_corpus(clep, material.corpus, progress=progress)
                found = _judge_fold(
                    *(clap, clep, by_clap, by_clep),
                    tested=~train,
                    seed=seed,
                    name=name,
                )
                if material.measured is not None and seed == seeds[0]:
                    found += _judge_measured(material, ~train, name)
                parts.append(found)
            verdicts += [join_verdicts(same) for same in zip(*parts, strict=True)]
            _show(verdicts, progress)
    return verdicts


def shift_places(
    clap: Clap,
    *,
    names: Sequence[str] = REAL,
    seeds: Iterable[int] = (0,),
    recipe: Recipe = LOCO_RECIPE,
    severities: Sequence[float] = SEVERITIES,
    n_shifted: int = N_SHIFTED,
    work: Path | None = None,
    progress: bool = True,
) -> list[Verdict]:
    """Train on clean clips of all corpora; test new speakers in worse and worse places.

    Training clips are those of the training speakers. For "shift" they are heard as
    they were recorded and in no place (clap-mini has heard synthetic ones); the models
    of "shift-heard" heard each clip in two random places as well. Each tested clip is
    heard in every place, with echoes and noise of its own that no method may choose.

    Args:
        clap: Where every fine-tuning starts.
        names: Corpora, mixed for training and for testing.
        seeds: Two fine-tunings each.
        recipe: Of the fine-tuning.
        severities: As in `environments.place`; "clean" is tested beside.
        n_shifted: Clips of each corpus's test speakers, drawn once.
        work: Folder that keeps finished models.
        progress: Show bars.

    Returns:
        Verdicts of the settings "shift" and "shift-heard", whose `test` is "clean" or,
        for instance, "telephone x2".

    Raises:
        CorpusError: A corpus is not found.
    """
    loaded = [load_corpus(name) for name in names]
    known = []
    for corpus in loaded:
        material = prepare(corpus, clap, progress=progress)
        train = (corpus.clips["split"] == "train").to_numpy()
        known.append(material.select(train))
    shared = join_corpora(*(m.corpus.select(emotions=EMOTIONS) for m in known))
    tested = join_corpora(*(_some(corpus, n_shifted) for corpus in loaded))
    waves = {row: wave for row, wave in tested.iter_waves()}
    clips = tested.clips.iloc[list(waves)].reset_index(drop=True)
    ways = {"shift": [_clean(m) for m in known], "shift-heard": known}
    panel: list[tuple[str, Clap, Judges]] = []
    for seed in seeds:
        for setting, materials in ways.items():
            clep = train_once(
                *(clap, lambda materials=materials: materials),
                name=f"inside-{setting}",
                recipe=recipe,
                seed=seed,
                work=work,
                progress=progress,
            )
            training = Training.of(embed_corpus(clep, shared, progress=progress))
            judges = Judges.fit(clap, clep, training=training, seed=seed)
            panel.append((setting, clep, judges))
    conditions = [("clean", 0.0)]
    conditions += [(name, s) for s in severities for name in ENVIRONMENTS]
    verdicts: list[Verdict] = []
    for environment, severity in conditions:
        heard = list(waves.values())
        test = environment
        if severity > 0:
            test = f"{environment} x{severity:g}"
            heard = [
                place(
                    wave,
                    environment,
                    generator=clip_generator(clip, seed=1),
                    severity=severity,
                )
                for clip, wave in zip(clips["clip"], heard, strict=True)
            ]
        by_clap = EmbeddedCorpus(clap.embed_audio(heard), clips, NO_PROBLEMS)
        for setting, clep, judges in panel:
            by_clep = EmbeddedCorpus(clep.embed_audio(heard), clips, NO_PROBLEMS)
            verdicts += judges.judge(by_clap, by_clep, setting=setting, test=test)
        _show(verdicts, progress)
    return verdicts


def join_verdicts(parts: Sequence[Verdict]) -> Verdict:
    """Put one method's verdicts on several folds one after the other.

    Raises:
        ValueError: They are of different methods, settings or corrections.
    """
    first = parts[0]
    about = {k: v for k, v in vars(first).items() if k not in ("truth", "guess")}
    for part in parts[1:]:
        if any(getattr(part, name) != value for name, value in about.items()):
            raise ValueError(f"verdicts of {first.method} and {part.method} are mixed")
    return replace(
        first,
        truth=np.concatenate([p.truth for p in parts]),
        guess=np.concatenate([p.guess for p in parts]),
    )


def _judge_fold(
    clap: Clap,
    clep: Clap,
    by_clap: EmbeddedCorpus,
    by_clep: EmbeddedCorpus,
    *,
    tested: np.ndarray,
    seed: int,
    name: str,
) -> list[Verdict]:
    """Judge a fold's test speakers: all emotions, then the shared four."""
    labels = by_clep.clips["emotion"]
    ways = {"supervised": labels.notna(), "supervised-shared": labels.isin(EMOTIONS)}
    verdicts = []
    for setting, wanted in ways.items():
        wanted = wanted.to_numpy()
        emotions = [e for e in EMOTIONS if e in set(labels)]
        if setting == "supervised":
            emotions = sorted(set(labels))
        training = Training.of(_rows(by_clep, wanted & ~tested))
        judges = Judges.fit(clap, clep, emotions=emotions, training=training, seed=seed)
        heard = (_rows(by, wanted & tested) for by in (by_clap, by_clep))
        verdicts += judges.judge(*heard, setting=setting, test=name)
    return verdicts


def _judge_measured(material: Material, tested: np.ndarray, name: str) -> list[Verdict]:
    verdicts = []
    clips = material.corpus.clips
    side = clips.assign(corpus=np.where(tested, name, "others"))
    for setting, wanted in (
        ("supervised", clips["emotion"].notna()),
        ("supervised-shared", clips["emotion"].isin(EMOTIONS)),
    ):
        keep = (wanted & ~np.isnan(material.measured[:, 0])).to_numpy()
        verdicts += judge_measurements(
            material.measured[keep], side[keep], test=name, setting=setting
        )
    return verdicts


def _rows(heard: EmbeddedCorpus, keep: np.ndarray) -> EmbeddedCorpus:
    clips = heard.clips[keep].reset_index(drop=True)
    return EmbeddedCorpus(heard.embeddings[keep], clips, NO_PROBLEMS)


def _clean(material: Material) -> Material:
    """Keep of each clip the picture of it as it was recorded."""
    drawn = material.pictures
    clean = replace(drawn, mels=drawn.mels[:, :1], places=drawn.places[:, :1])
    return replace(material, pictures=clean)


def _readable(material: Material) -> np.ndarray:
    keep = np.zeros(len(material.corpus), bool)
    keep[material.pictures.kept] = True
    return keep


def _some(corpus: Corpus, n: int) -> Corpus:
    """Draw n clips of the shared emotions by speakers of the test split."""
    corpus = corpus.select(emotions=EMOTIONS, splits="test")
    rows = np.random.default_rng(0).permutation(len(corpus))[:n]
    return replace(corpus, clips=corpus.clips.iloc[np.sort(rows)])


def _show(verdicts: Sequence[Verdict], progress: bool) -> None:
    if progress:
        for setting in dict.fromkeys(v.setting for v in verdicts):
            rows = [v.row(n_resamples=1) for v in verdicts if v.setting == setting]
            print(f"{setting}\n{summarise(rows)}", file=sys.stderr, flush=True)
