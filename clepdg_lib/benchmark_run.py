"""Run the benchmark from the command line: a setting, a tier of data, a JSON file.

Lesson: notebooks/05_generalise_across_domains.ipynb
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

from clepdg_lib.ablation import AS_IT_IS, ablate
from clepdg_lib.benchmark import (
    leave_corpora_out,
    leave_domains_out,
    replay_embeddings,
)
from clepdg_lib.clap import load_clap
from clepdg_lib.corpora import load_corpus
from clepdg_lib.files import write_atomically
from clepdg_lib.real_speech import shipped_seeds
from clepdg_lib.selection import RULES, method_of, select_variants
from clepdg_lib.supervised import SEVERITIES, shift_places, supervise
from clepdg_lib.verdicts import Verdict, compare, rows_of, summarise
from clepdg_lib.versions import versions


def main(args: argparse.Namespace) -> None:
    """Run a setting and write its rows; see ``--help``."""
    clap = load_clap(args.model)
    seeds = args.seeds or (shipped_seeds() if args.tier == "embeddings" else [0])
    tier = "embeddings" if args.setting == "ablation" else "audio"
    if args.tier != tier and args.setting not in (None, "loco"):
        needs = "recordings" if tier == "audio" else "the embeddings that ship"
        raise ValueError(
            f"the setting {args.setting!r} needs {needs}: use --tier {tier}"
        )
    choices = []
    if args.setting == "selection":
        verdicts, choices = select_variants(clap, seeds=seeds, work=args.work)
    elif args.tier == "audio":
        runs = {"supervised": supervise, "shift": shift_places}
        run = runs.get(args.setting, leave_corpora_out)
        verdicts = run(clap, seeds=seeds, work=args.work)
    elif args.tier == "embeddings":
        if args.model != "clap-mini":
            raise ValueError(
                f"the embeddings that ship are of 'clap-mini', not of {args.model!r}; "
                "use --tier audio for another model"
            )
        run = ablate if args.setting == "ablation" else replay_embeddings
        verdicts = run(seeds=seeds)
    else:
        corpus = load_corpus("emosynth")
        verdicts = leave_domains_out(clap, corpus, seeds=seeds)
    rows = rows_of(verdicts)
    result = {
        **{"tier": args.tier, "model": clap.name, "seeds": list(seeds)},
        "rows": rows,
        "comparisons": comparisons(verdicts),
        **({"choices": [asdict(c) for c in choices]} if choices else {}),
        "made_with": versions(),
    }
    text = json.dumps(result, indent=1) + "\n"
    if args.json == "-":
        print(text)
        return
    for setting in dict.fromkeys(row["setting"] for row in rows):
        for score in ("uar", "war"):
            print(f"\n{setting}, {score.upper()}, mean over {len(seeds)} seed(s)")
            table = summarise(
                [row for row in rows if row["setting"] == setting], score=score
            )
            print(table.round(3).to_string())
    if args.json:
        write_atomically(Path(args.json), text)


def comparisons(verdicts: list[Verdict]) -> list[dict]:
    """The method and its controls, in pairs.

    Of an ablation it is what is changed; of a selection, what the headline's rule chose
    and everything else.
    """
    centre = {"ablation": AS_IT_IS, "selection": method_of(RULES[0])}
    settings = {v.setting for v in verdicts} & set(centre)
    if not settings:
        return compare([*verdicts, *hardest(verdicts), *gap_closed(verdicts)])
    a = centre[settings.pop()]
    methods = dict.fromkeys(v.method for v in verdicts)
    return compare(verdicts, a=a, others=[m for m in methods if m != a])


def gap_closed(verdicts: list[Verdict]) -> list[Verdict]:
    """Verdicts with the modality gap closed, as settings of their own."""
    return [
        replace(v, setting=f"{v.setting}, gap closed", gap_correction="none")
        for v in verdicts
        if v.gap_correction != "none"
    ]


def hardest(verdicts: list[Verdict]) -> list[Verdict]:
    """Shifts at the greatest severity, as settings of their own."""
    end = f" x{max(SEVERITIES):g}"
    return [
        replace(v, setting=f"{v.setting}, hardest")
        for v in verdicts
        if v.setting in ("shift", "shift-heard") and v.test.endswith(end)
    ]
