"""Who chooses the settings? Three rules, as DomainBed has them.

A method with knobs is as good as the way they are turned. Gulrajani and Lopez-Paz (In
Search of Lost Domain Generalization, ICLR 2021) found that the rule decides more than
the method, and that many papers had turned the knobs on the test domain. Here each rule
chooses among the variants of context tuning, for every left-out corpus anew:

    training-domain        best on other speakers of the training corpora
    leave-one-domain-out   best on a training corpus that was left out as well
    oracle                 best on the test corpus itself: a bound, never a result

The first two know nothing of the test corpus, and rehearse with models that were
fine-tuned without whoever judges them. What they choose is then judged by the model
that was fine-tuned on all of the training corpora, as in `loco`.

    CLEPDG_CORPORA=... python -m clepdg_lib benchmark --setting selection --json PATH

Lesson: notebooks/05_generalise_across_domains.ipynb
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from clepdg_lib.ablation import AS_IT_IS, NONE, UNTUNED, VARIANTS, Make, fit_variants
from clepdg_lib.benchmark import LOCO_RECIPE, train_once
from clepdg_lib.clap import Clap, embed_corpus
from clepdg_lib.contrast import Recipe
from clepdg_lib.corpora import EMOTIONS, Corpus
from clepdg_lib.evaluation import uar
from clepdg_lib.material import REAL, Material, load_all, prepare
from clepdg_lib.transfer import TextClassifier
from clepdg_lib.verdicts import Verdict

RULES = ("training-domain", "leave-one-domain-out", "oracle")


@dataclass(frozen=True)
class Choice:
    """What a rule chose.

    Attributes:
        test: The left-out corpus.
        seed: Of the fine-tunings and contexts.
        rule: One of `RULES`.
        variant: Name in `ablation.VARIANTS`.
        validation_uar: Its mean UAR where it was chosen.
    """

    test: str
    seed: int
    rule: str
    variant: str
    validation_uar: float


def method_of(rule: str) -> str:
    """Name of the method in the rows: clep-dg, its knobs turned by a rule."""
    return f"clep-dg, {rule}"


def select_variants(
    clap: Clap,
    *,
    tests: Sequence[str] = REAL,
    seeds: Iterable[int] = (0,),
    recipe: Recipe = LOCO_RECIPE,
    variants: Mapping[str, dict | Make] = VARIANTS,
    work: Path | None = None,
    progress: bool = True,
) -> tuple[list[Verdict], list[Choice]]:
    """Let each rule choose a variant of context tuning for each left-out corpus.

    Args:
        clap: Where every fine-tuning starts; its recipe leaves the text tower as it
            was, so that contexts tuned once serve them all.
        tests: Corpora to leave out, three or more.
        seeds: A whole chain each: for four corpora, 4 fine-tunings that are judged, 4
            without some speakers and 6 without two corpora.
        recipe: Of the fine-tunings.
        variants: To choose from.
        work: Folder of checkpoints and finished models; `loco` shares its own.
        progress: Show bars.

    Returns:
        Verdicts of the setting "selection": no contexts, the variant as it is, the
        untuned one, then one method for each rule; and the choices.

    Raises:
        ValueError: Fewer than three corpora: none is left to train on when one is
            tested and another one validated.
        CorpusError: A corpus is not found.
    """
    if len(tests) < 3:
        raise ValueError(
            f"tests are {list(tests)}; one is judged, one validated, and one must be "
            "left to train on: give three corpora or more"
        )
    corpora, drawn = load_all(tests), {}
    verdicts, choices = [], []
    for seed in seeds:
        judges = fit_variants(clap, variants, seed=seed)
        rehearsal = _Rehearsal(
            clap=clap,
            corpora=corpora,
            tests=tuple(tests),
            judges=judges,
            variants=tuple(variants),
            recipe=recipe,
            seed=seed,
            work=work,
            progress=progress,
            drawn=drawn,
        )
        elsewhere = rehearsal.on_left_out_corpora()
        for test in tests:
            clep = rehearsal.train(f"loco-{test}", [test])
            said = rehearsal.judge(clep, corpora[test])
            by_rule = {
                "training-domain": rehearsal.on_other_speakers(test),
                "leave-one-domain-out": elsewhere[test],
                "oracle": rehearsal.scores(said),
            }
            chosen = {rule: str(found.idxmax()) for rule, found in by_rule.items()}
            choices += [
                Choice(test, seed, rule, variant, float(by_rule[rule][variant]))
                for rule, variant in chosen.items()
            ]
            fixed = [(n, n, "none") for n in (NONE, AS_IT_IS, UNTUNED) if n in judges]
            ruled = [(method_of(rule), chosen[rule], rule) for rule in RULES]
            verdicts += [
                Verdict(
                    *(method, "selection", test, seed),
                    *(said.truth, said.guesses[variant]),
                    selection=rule,
                )
                for method, variant, rule in (*fixed, *ruled)
            ]
            if progress:
                print(f"seed {seed}, {test} left out: {chosen}", file=sys.stderr)
    return verdicts, choices


@dataclass(frozen=True)
class _Said:
    """What every judge said of n clips."""

    truth: np.ndarray
    guesses: dict[str, np.ndarray]


@dataclass(frozen=True)
class _Rehearsal:
    """One seed's fine-tunings, and how the variants do on whom they left out."""

    clap: Clap
    corpora: Mapping[str, Corpus]
    tests: tuple[str, ...]
    judges: Mapping[str, TextClassifier]
    variants: tuple[str, ...]  # judges that may be chosen
    recipe: Recipe
    seed: int
    work: Path | None
    progress: bool
    drawn: dict[str, Material] = field(repr=False)  # kept from seed to seed

    def on_left_out_corpora(self) -> dict[str, pd.Series]:
        """Leave two out at a time; each is judged for the other one's sake."""
        found: dict[str, list[pd.Series]] = {test: [] for test in self.tests}
        for pair in itertools.combinations(self.tests, 2):
            clep = self.train(f"pair-{'-'.join(pair)}", pair)
            for test, judged in (pair, pair[::-1]):
                said = self.judge(clep, self.corpora[judged])
                found[test].append(self.scores(said))
        return {test: sum(each) / len(each) for test, each in found.items()}

    def on_other_speakers(self, test: str) -> pd.Series:
        """Leave the test corpus out, and of the others all but training speakers."""
        clep = self.train(f"speakers-{test}", [test], all_speakers=False)
        found = []
        for name in self.tests:
            if name != test:
                others = self.corpora[name].select(splits=["validation", "test"])
                found.append(self.scores(self.judge(clep, others)))
        return sum(found) / len(found)

    def train(
        self, name: str, absent: Sequence[str], *, all_speakers: bool = True
    ) -> Clap:
        """Fine-tune on all corpora but the absent ones."""

        def materials() -> list[Material]:
            for other in set(self.corpora) - set(absent) - set(self.drawn):
                corpus = self.corpora[other]
                self.drawn[other] = prepare(corpus, self.clap, progress=self.progress)
            found = {n: self.drawn[n] for n in self.corpora if n not in absent}
            return [
                m if all_speakers or n not in self.tests else _training_part(m)
                for n, m in found.items()
            ]

        return train_once(
            *(self.clap, materials),
            name=name,
            recipe=self.recipe,
            seed=self.seed,
            work=self.work,
            progress=self.progress,
        )

    def judge(self, clep: Clap, corpus: Corpus) -> _Said:
        """Let every judge say which of the shared emotions it hears."""
        heard = embed_corpus(
            clep, corpus.select(emotions=EMOTIONS), progress=self.progress
        )
        guesses = {n: j.predict(heard.embeddings) for n, j in self.judges.items()}
        return _Said(heard.clips["emotion"].to_numpy(dtype=str), guesses)

    def scores(self, said: _Said) -> pd.Series:
        """UAR of every variant."""
        return pd.Series({v: uar(said.truth, said.guesses[v]) for v in self.variants})


def _training_part(material: Material) -> Material:
    return material.select((material.corpus.clips["split"] == "train").to_numpy())
