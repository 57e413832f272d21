"""Run the benchmark from the command line: a setting, a tier of data, a JSON file.

Lesson: notebooks/05_generalise_across_domains.ipynb
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
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
    if args.tier == "audio":
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
    """The method and its controls, in pairs; of an ablation, it and what is changed."""
    if all(v.setting != "ablation" for v in verdicts):
        return compare([*verdicts, *hardest(verdicts)])
    methods = dict.fromkeys(v.method for v in verdicts)
    return compare(verdicts, a=AS_IT_IS, others=[m for m in methods if m != AS_IT_IS])


def hardest(verdicts: list[Verdict]) -> list[Verdict]:
    """Shifts at the greatest severity, as settings of their own."""
    end = f" x{max(SEVERITIES):g}"
    return [
        replace(v, setting=f"{v.setting}, hardest")
        for v in verdicts
        if v.setting in ("shift", "shift-heard") and v.test.endswith(end)
    ]
