"""The scripts of data/build: emosynth, the text tower's sentences, gathered voices."""

import re
import sys

import emosynth
import numpy as np
import pandas as pd
import pytest
import soundfile
import text_tower
import torch
import transformers
import voices
from safetensors.torch import load_file
from torch.nn import functional as F

from clepdg_lib.audio.places import ENVIRONMENTS
from clepdg_lib.audio.waves import LEVEL_DB, SAMPLE_RATE, read_audio, rms_db
from clepdg_lib.captions import CANONICAL, WORDS
from clepdg_lib.files import PROJECT, verify_checksums

EMOSYNTH = PROJECT / "data" / "emosynth"
DATASHEET = EMOSYNTH / "README.md"


@pytest.fixture(scope="module")
def clips() -> pd.DataFrame:
    return pd.read_csv(EMOSYNTH / "clips.csv")


def test_emosynth_is_whole_and_small_and_its_files_match_the_table(clips):
    assert not verify_checksums(EMOSYNTH)
    files = [path for path in EMOSYNTH.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8_000_000
    files = {p.relative_to(EMOSYNTH).as_posix() for p in EMOSYNTH.rglob("*.ogg")}
    assert set(clips["path"]) == files and clips["path"].is_unique
    assert (clips["path"] == clips["clip"] + ".ogg").all()
    assert len(clips) == 1280
    assert clips["seconds"].between(1.5, 3.0).all()
    assert not clips.isna().any().any()
    for row in clips.sample(40, random_state=0).itertuples():
        info = soundfile.info(EMOSYNTH / row.path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "OPUS")
        wave = read_audio(EMOSYNTH / row.path)
        assert len(wave) / SAMPLE_RATE == pytest.approx(row.seconds, abs=0.002)
        assert rms_db(wave) == pytest.approx(LEVEL_DB, abs=1.5)


def test_emosynth_voices_have_one_domain_and_one_split_and_say_all(clips):
    assert clips["speaker"].nunique() == 20 and clips["text"].nunique() == 24
    for column in ("domain", "split", "sex", "engine"):
        assert (clips.groupby("speaker")[column].nunique() == 1).all()
    assert clips["engine"].nunique() == clips["speaker"].nunique()
    assert set(clips["domain"]) == set(ENVIRONMENTS)
    for _, domain in clips.drop_duplicates("speaker").groupby("domain"):
        assert sorted(domain["split"]) == ["test", "train", "train", "validation"]
        assert sorted(domain["sex"]) == ["female", "female", "male", "male"]
    # The text is independent of the emotion.
    groups = clips.groupby(["speaker", "text"])
    counts = groups[["emotion", "intensity"]].value_counts()
    assert (counts == 1).all() and len(counts) == len(clips)
    assert (groups.size() == 8).all()


def test_emosynth_datasheet_agrees_with_the_audio(clips):
    text = DATASHEET.read_text(encoding="utf-8")
    match = re.search(r"\*\*mean\*\* \| \| \| \*\*(.+?)\*\* \| \*\*(.+?)\*\*", text)
    inside, outside = float(match[1]), float(match[2])
    assert 0.60 <= inside <= 0.95 and inside - outside >= 0.10
    stated = float(re.search(r"^\| hall \| 256 \| .* \| (0\.\d+) \| 0", text, re.M)[1])
    here = clips[clips["domain"] == "hall"]
    features = emosynth.probe_features(EMOSYNTH, here)
    assert features.shape == (256, 128)
    emotions, speakers = here["emotion"].to_numpy(), here["speaker"].to_numpy()
    measured = emosynth.probe_inside(features, emotions, speakers)
    assert measured == pytest.approx(stated, abs=0.03)


def test_a_clip_is_the_same_alone_and_among_others(clips, tmp_path, monkeypatch):
    """A stand-in reading and no WORLD: the rest of the chain is real."""
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    tone = 0.1 * np.sin(2 * np.pi * 200 * time)
    monkeypatch.setattr(emosynth, "read_aloud", lambda engine, text: tone)
    monkeypatch.setattr(emosynth, "analyse", lambda wave: wave)

    def express(wave, manner, generator):
        return wave * (1 + 0.1 * generator.normal(size=len(wave)))

    monkeypatch.setattr(emosynth, "express", express)
    some = clips.groupby("domain").head(2)
    table = emosynth.build(tmp_path / "one", some)
    emosynth.build(tmp_path / "two", some.iloc[::-1].head(3))
    assert list(table.columns) == list(clips.columns) and len(table) == 10
    assert table["seconds"].eq(2.0).all()
    for path in some["path"].iloc[-3:]:
        waves = [read_audio(tmp_path / name / path) for name in ("one", "two")]
        assert torch.equal(*waves)
        assert rms_db(waves[0]) == pytest.approx(LEVEL_DB, abs=1.5)


def test_emotions_differ_as_the_literature_says_and_seeds_differ(clips):
    manners = [emosynth.draw_manner(row, seed=0) for _, row in clips.iterrows()]
    manners = pd.DataFrame(manners, columns=list(emosynth.CUES))
    mean = manners.groupby(clips["emotion"]).mean()
    assert mean["pitch"]["happy"] > mean["pitch"]["angry"] > mean["pitch"]["sad"]
    assert mean["tilt"]["angry"] > mean["tilt"]["neutral"] > mean["tilt"]["sad"]
    again, other = (emosynth.draw_manner(clips.iloc[0], seed=s) for s in (0, 2))
    assert (manners.iloc[0] == again).all() and (manners.iloc[0] != other).all()


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    return text_tower.write_sentences()


def test_thousands_of_right_sentences_cover_every_emotion_and_mixtures(pairs):
    assert len(pairs) == len(set(pairs)) > 4000
    counts = pd.Series([emotion for _, emotion in pairs]).value_counts()
    assert set(counts.index) == set(WORDS) and counts.min() > 100
    assert not any("{" in sentence for sentence, _ in pairs)
    assert text_tower.write_sentences(seed=0) == pairs
    assert text_tower.write_sentences(seed=4) != pairs
    captions = text_tower.caption_corpus(n_mixed=50)
    assert len(captions) == len(set(captions)) > 1000
    assert CANONICAL.format(emotion="sad") in captions
    assert f"{CANONICAL.format(emotion='sad')} over the telephone" in captions
    assert captions == text_tower.caption_corpus(n_mixed=50)
    # Pronouns and articles agree.
    woman = ["the woman", "was", "is", "her", "her", "she", "herself"]
    sentence = text_tower.fill_frame("{he} {is} {x}", "beside {himself}", woman)
    assert sentence == "the woman is beside herself"
    somebody = ["somebody", "was", "is", "their", "them", "they", "themselves"]
    frame = "{he} {is} not sad, {he2} {is} a {x} soul"
    sentence = text_tower.fill_frame(frame, "angry", somebody)
    assert sentence == "somebody is not sad, they are an angry soul"


def test_no_training_sentence_is_held_out_or_close_to_one(pairs):
    table = PROJECT / "tests" / "data" / "emotion_paraphrases.csv"
    held_out = pd.read_csv(table)["sentence"].tolist()
    sentences = [sentence for sentence, _ in pairs]
    assert text_tower.drop_held_out(sentences) == sentences
    assert not set(sentences) & set(held_out)
    disguised = held_out[7].upper() + "."
    assert text_tower.drop_held_out(["a harmless one", disguised]) == ["a harmless one"]
    near = ("yesterday he slams the door and curses", "angry")  # one more word
    far = ("the door is open", "neutral")
    assert text_tower.drop_close([near, far]) == [far]


def test_sharpened_targets_separate_emotions():
    generator = torch.Generator().manual_seed(0)
    targets = F.normalize(torch.randn(300, 16, generator=generator), dim=-1)
    labels = torch.arange(300) % 3
    labels[150:] = -1
    sharp = text_tower.sharpen(targets, labels, seed=0)
    torch.testing.assert_close(sharp.norm(dim=-1), torch.ones(300))

    def separation(points: torch.Tensor) -> float:
        means = torch.stack([points[labels == k].mean(0) for k in range(3)])
        return torch.pdist(means).min().item()

    assert separation(sharp) > 1.5 * separation(targets)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A tiny BERT with a word-piece tokenizer, in the folder of a sentence encoder."""
    folder = tmp_path_factory.mktemp("teacher")
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(c) for c in range(97, 123)]
    words = [word for emotion in WORDS for word in WORDS[emotion]]
    pieces = [*specials, "unused", *letters, *(f"##{c}" for c in letters), *words]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    transformers.BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"vocab_size": len(vocabulary), "hidden_size": 24, "num_hidden_layers": 6}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(**sizes)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def small_run(teacher, tmp_path_factory):
    """Both stages on a few sentences: the folder, the encoder, its start, the log."""
    folder = tmp_path_factory.mktemp("tower")
    labels = dict(text_tower.write_sentences()[::60])
    own = [CANONICAL.format(emotion=e) for e in text_tower.EMOTIONS]
    labels |= dict(zip(own, text_tower.EMOTIONS, strict=True))
    places = [f"the speaker is in a {word}" for word in ("hall", "car", "room")]
    sentences = [*labels, *places]
    full = text_tower.embed_with_teacher(teacher, sentences)
    names = ("", *text_tower.EMOTIONS)
    index = torch.tensor([names.index(labels.get(s, "")) - 1 for s in sentences])
    tokenizer, rows = text_tower.prune_tokenizer(teacher, sentences, list(labels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_tower, "DIM", 12)
        patch.setattr(text_tower, "EMOTION_STEPS", 3)
        targets = text_tower.reduce(full, dim=12)
        encoder = text_tower.start_encoder(teacher, tokenizer, rows)
        start = encoder.embed(sentences)
        run = {"epochs": 1, "seed": 0}
        log = text_tower.distil(encoder, sentences, targets, index, **run)
        known = list(labels.items())
        captions, glosses = own, places
        log += text_tower.learn_emotions(encoder, known, captions, glosses, **run)
    text_tower.write_tower(encoder, folder, log=log)
    return folder, encoder, start, log, rows


def test_the_student_starts_from_the_teachers_layers_and_is_logged(teacher, small_run):
    folder, encoder, start, log, rows = small_run
    fresh = text_tower.start_encoder(teacher, encoder.tokenizer, rows)
    own = fresh.text_model.state_dict()
    weights = load_file(teacher / "model.safetensors")
    name = "encoder.layer.{}.output.dense.weight"
    for here, there in enumerate(text_tower.LAYERS):
        assert torch.equal(own[name.format(here)], weights[name.format(there)])
    table = "embeddings.word_embeddings.weight"
    assert torch.equal(own[table], weights[table][rows])
    positions = "embeddings.position_embeddings.weight"
    assert torch.equal(own[positions][1], weights[positions][0])
    assert start.shape[1] == 12
    torch.testing.assert_close(start.norm(dim=-1), torch.ones(len(start)))
    logged = pd.read_csv(folder / "text_log.csv").set_index("stage")
    assert [row.pop("stage") for row in log] == list(logged.index)
    assert list(logged.index) == ["distil", "emotions"]
    assert all(np.isfinite(list(row.values())).all() for row in log)


def test_the_written_tower_loads_as_a_clap_model(small_run):
    folder, encoder, _, _, _ = small_run
    weights = load_file(folder / "text_tower.safetensors")
    assert {k.split(".")[0] for k in weights} == {"text_model", "text_projection"}
    assert all(value.dtype == torch.float16 for value in weights.values())
    config = transformers.ClapTextConfig.from_json_file(folder / "text_config.json")
    audio = {"hidden_size": 64, "patch_embeds_hidden_size": 8}
    settings = {"text_config": config.to_dict(), "audio_config": audio}
    config = transformers.ClapConfig(projection_dim=12, **settings)
    clap = transformers.ClapModel(config).eval()
    missing = clap.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys
    assert not [k for k in missing.missing_keys if "text" in k and "_ids" not in k]
    sentences = [CANONICAL.format(emotion="sad"), "a voice"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    points = clap.get_text_features(**batch).pooler_output
    cosines = (F.normalize(points, dim=-1) * encoder.embed(sentences)).sum(-1)
    assert (cosines > 0.99).all()


def voice(seconds: float, *, pitch: float = 140.0) -> np.ndarray:
    """A buzz with the spectrum of a voice, and a short pause in each second."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 12))
    return (0.1 * wave * (time % 1 < 0.9)).astype(np.float32)


def test_a_voice_has_a_pitch_and_noise_has_none():
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE)
    assert voices.is_voice(voice(2)) and voices.is_voice(voice(2, pitch=400))
    assert not voices.is_voice(noise.astype(np.float32))
    assert not voices.is_voice(0.001 * voice(2)), "too quiet to tell"


def test_short_recordings_are_joined_and_long_ones_cut():
    recordings = [("anna", "en", voice(0.5)) for _ in range(6)]
    recordings += [("ben", "en", voice(0.5)), ("ben", "en", voice(11.0))]
    found = list(voices.cut_recordings(recordings))
    # Two of Anna's words are left over; Ben's one word is too short for a clip.
    assert [s for s, _, _ in found] == ["anna", *["ben"] * (len(found) - 2), "anna"]
    anna, *ben, rest = [clip for _, _, clip in found]
    shortest, longest = (s * SAMPLE_RATE for s in (voices.MIN_SECONDS, 6.0))
    assert len(anna) >= 2 * SAMPLE_RATE > len(rest) >= shortest
    assert all(shortest <= len(clip) <= longest for clip in ben)
    assert sum(map(len, ben)) > 11 * SAMPLE_RATE - shortest
    for clip in ben[:-1]:
        assert np.abs(clip[-200:]).max() < 1e-3, "cut within a sound"


def test_gathered_voices_are_one_table(tmp_path, monkeypatch):
    source = voices.Source("prompts", "1", r"/(?P<voice>\w+)/\d", "fr", "female")
    folder = tmp_path / "packages" / "prompts" / "june"
    folder.mkdir(parents=True)
    for i, pitch in enumerate((140, 160, 180)):
        soundfile.write(folder / f"{i}.wav", voice(1.2, pitch=pitch), SAMPLE_RATE)
    (folder / "8.wav").write_bytes(b"no sound")
    soundfile.write(folder / "9.wav", voice(0.02), SAMPLE_RATE)
    monkeypatch.setattr(voices, "SOURCES", (source,))
    monkeypatch.setattr(sys, "argv", ["voices.py", "--out", str(tmp_path)])
    voices.main()
    table = pd.read_csv(tmp_path / "clips.csv")
    assert len(table) == 3 and set(table["speaker"]) == {"prompts:june"}
    assert set(table["sex"]) == {"female"} and set(table["language"]) == {"fr"}
    assert all(len(read_audio(tmp_path / p)) > 1.1 * SAMPLE_RATE for p in table["path"])
