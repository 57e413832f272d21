"""Teach a finished clap-mini what people say of emotions, and move nothing else.

The text tower comes from a sentence encoder, which files sentences by topic: "her
blood is boiling" lies near blood. Here it learns to which emotion such a sentence
belongs, from the English of ``emotion_sentences.py``, while all captions of the course
and the glosses of WordNet are held where they are. So the audio tower, which learned
from those captions, stays valid, and so does every CLEP fine-tuned on them.

    python data/teach_emotion_words.py    # eleven minutes on one thread
    python data/teach_emotion_words.py --keep-back 0.15 --out build/words/trial

With ``--keep-back`` some phrases are shown to nobody and judged after each epoch. In a
trial of three epochs they were level from the first one on; five were taken because
captions go on coming home. That trial also printed the score on the 200 paraphrases of
the tests, so it was seen before the choice, if not chosen by.

Needs Debian's wordnet-base. Resumes after the last finished epoch; writes the text
tower into the models, and words-log.csv beside the first.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import time
import warnings
from pathlib import Path

import torch
from build_clap_mini_text import read_wordnet, sound_names
from emotion_sentences import check_unseen, read_phrases, unseen, write_sentences
from torch.nn import functional as F

from clepdg_lib.captions import CANONICAL, caption_corpus, valid_emotions
from clepdg_lib.checkpoints import read_checkpoint, write_checkpoint
from clepdg_lib.clap import Clap, load_clap
from clepdg_lib.corpora import EMOTIONS
from clepdg_lib.files import data_root, write_checksums
from clepdg_lib.recipe import fast_precision

STEPS = 100  # of an epoch
FELT, HELD = 96, 64  # sentences of a step: about emotions; captions, and glosses
SCALE, SMOOTHING = 20.0, 0.05  # of the cross-entropy over emotions
HOLD, HOLD_GLOSSES = 10.0, 3.0  # what moving a caption or a gloss costs
ONE_GLOSS_IN = 8
LOG = "words-log.csv"


def main() -> None:
    models = data_root() / "models"
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--model", type=Path, default=models / "clap-mini")
    arguments.add_argument(
        "--also",
        type=Path,
        nargs="*",
        default=[models / "clep-mini"],
        help="models with the same text tower, which get the new one, too",
    )
    arguments.add_argument("--out", type=Path, help="write the model here instead")
    arguments.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    arguments.add_argument("--work", type=Path, default=Path("build/words"))
    arguments.add_argument("--epochs", type=int, default=5)
    arguments.add_argument("--learning-rate", type=float, default=2e-4)
    arguments.add_argument("--keep-back", type=float, default=0.0, metavar="SHARE")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--seed", type=int, default=0)
    args = arguments.parse_args()
    torch.set_num_threads(args.threads)
    clap = load_clap(args.model)
    others = [] if args.out else [load_clap(folder) for folder in args.also]
    for folder, other in zip(args.also, others, strict=False):  # none with --out
        if not same_text(clap, other):
            raise SystemExit(f"{folder} has another text tower than {args.model}")
    train(clap, args)
    taught = [(args.out or args.model, clap), *zip(args.also, others, strict=False)]
    for folder, model in taught:
        model.model.load_state_dict(text_weights(clap), strict=False)
        model.save(folder, half=True)
        if model is clap:
            shutil.copy(args.work / LOG, folder / LOG)
        write_checksums(folder)
        print(f"{folder} has the new text tower")


def train(clap: Clap, args: argparse.Namespace) -> None:
    """Teach the text tower, in place."""
    known, kept_back = written(args.keep_back, seed=args.seed)
    held = caption_corpus(sounds=sound_names())
    glosses = unseen(read_wordnet(args.wordnet))[::ONE_GLOSS_IN]
    check_unseen([*(s for s, _ in known), *held, *glosses])
    names = valid_emotions()
    canonical = [CANONICAL.format(emotion=e) for e in names]
    goals, at_home, of_glosses = map(clap.embed_text, (canonical, held, glosses))
    labels = torch.tensor([names.index(e) for _, e in known])
    often = labels.bincount()[labels].float().rsqrt()  # rare emotions more often
    weights = [*clap.model.text_model.parameters()]
    weights += clap.model.text_projection.parameters()
    optimiser = torch.optim.AdamW(weights, lr=args.learning_rate, weight_decay=0.01)
    total = args.epochs * STEPS
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, args.learning_rate, total_steps=total + 1, pct_start=0.1
    )
    checkpoint = args.work / f"words-{args.keep_back:g}-{args.seed}.safetensors"
    first = resume(checkpoint, clap, optimiser, schedule, about=str(vars(args)))
    log = args.work / LOG
    for epoch in range(first, args.epochs):
        draw = torch.Generator().manual_seed(1000 * args.seed + epoch)
        began, sums = time.time(), torch.zeros(3)
        for _ in range(STEPS):
            felt = torch.multinomial(often, FELT, generator=draw)
            one = torch.randint(len(held), (HELD,), generator=draw)
            other = torch.randint(len(glosses), (HELD,), generator=draw)
            points = embed(
                clap,
                [known[i][0] for i in felt]
                + [held[i] for i in one]
                + canonical
                + [glosses[i] for i in other],
            )
            parts = points.split([FELT, HELD, len(canonical), HELD])
            told = F.cross_entropy(
                SCALE * parts[0] @ goals.T, labels[felt], label_smoothing=SMOOTHING
            )
            moved = away(parts[1], at_home[one]) + away(parts[2], goals)
            glossed = away(parts[3], of_glosses[other])
            loss = told + HOLD * moved + HOLD_GLOSSES * glossed
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            schedule.step()
            sums += torch.stack([told, moved, glossed]).detach() / STEPS
        row = {"epoch": epoch + 1}
        losses = ("emotions", "captions", "glosses")
        row |= dict(zip(losses, sums.tolist(), strict=True))
        row["kept back"] = judge(clap, kept_back)
        row["seconds"] = time.time() - began
        keep(checkpoint, clap, optimiser, epoch + 1, about=str(vars(args)))
        write_row(log, row, new=epoch == 0)
        print({k: v if v is None else round(v, 4) for k, v in row.items()}, flush=True)
    drift = (clap.embed_text(held) * at_home).sum(-1)
    print(f"captions: mean cosine {drift.mean():.4f} with where they were")


def written(share: float, *, seed: int) -> tuple[list, list]:
    """Sentences with their emotions to train on, and those of phrases kept back."""
    draw, shown, back = random.Random(seed), {}, {}
    for key, phrases in read_phrases().items():
        kept = [draw.random() < share for _ in phrases]
        shown[key] = [p for p, k in zip(phrases, kept, strict=True) if not k]
        back[key] = [p for p, k in zip(phrases, kept, strict=True) if k]
    known = write_sentences(seed=seed, per_phrase=8, phrases=shown)
    if not share:
        return known, []
    taught = {sentence for sentence, _ in known}
    others = write_sentences(seed=seed, per_phrase=2, phrases=back)
    return known, [pair for pair in others if pair[0] not in taught]


def embed(clap: Clap, sentences: list[str]) -> torch.Tensor:
    """`Clap.embed_text` with gradients, and as fast as this machine can."""
    ids, mask = clap._tokenize(sentences)
    fast = fast_precision(clap.device, "auto")
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        hidden = clap.model.text_model(input_ids=ids, attention_mask=mask)
    return F.normalize(clap.model.text_projection(hidden.pooler_output.float()), dim=-1)


def away(points: torch.Tensor, home: torch.Tensor) -> torch.Tensor:
    return (1 - (points * home).sum(-1)).mean()


def judge(clap: Clap, pairs: list[tuple[str, str]]) -> float | None:
    """Share of sentences nearest to their own of the four canonical captions."""
    pairs = [(s, e) for s, e in pairs if e in EMOTIONS]
    if not pairs:
        return None
    goals = clap.embed_text([CANONICAL.format(emotion=e) for e in EMOTIONS])
    nearest = (clap.embed_text([s for s, _ in pairs]) @ goals.T).argmax(dim=1)
    right = nearest == torch.tensor([EMOTIONS.index(e) for _, e in pairs])
    return right.float().mean().item()


def same_text(one: Clap, other: Clap) -> bool:
    mine, theirs = text_weights(one), text_weights(other)
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def text_weights(clap: Clap) -> dict[str, torch.Tensor]:
    state = clap.model.state_dict()
    return {name: state[name] for name in state if name.startswith("text_")}


def keep(file: Path, clap: Clap, optimiser, epoch: int, *, about: str) -> None:
    """Write weights and Adam's moments."""
    tensors = {f"model.{k}": v for k, v in text_weights(clap).items()}
    for i, state in optimiser.state_dict()["state"].items():
        tensors |= {f"{name}.{i}": value for name, value in state.items()}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_checkpoint(file, tensors, {"epoch": str(epoch), "about": about})


def resume(file: Path, clap: Clap, optimiser, schedule, *, about: str) -> int:
    """Go on from a checkpoint of the same settings; return the epochs that it has."""
    if not file.is_file():
        return 0
    tensors, notes = read_checkpoint(file)
    if notes.get("about") != about:
        raise SystemExit(f"{file} is of other settings; delete it to begin anew")
    prefix = "model."
    weights = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
    clap.model.load_state_dict(weights, strict=False)
    state = optimiser.state_dict()
    state["state"] = {
        i: {n: tensors[f"{n}.{i}"] for n in ("step", "exp_avg", "exp_avg_sq")}
        for i in range(sum(k.startswith("step.") for k in tensors))
    }
    optimiser.load_state_dict(state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # steps without an optimiser's are meant
        for _ in range(int(notes["epoch"]) * STEPS):
            schedule.step()
    return int(notes["epoch"])


def write_row(log: Path, row: dict, *, new: bool) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w" if new else "a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
