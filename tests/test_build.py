"""The scripts of data/build: emosynth, the text tower's sentences, gathered voices."""

from __future__ import annotations

import importlib.util
import io
import re
import struct
import subprocess
import sys
import zipfile
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from torch.nn import functional as F
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    ClapConfig,
    ClapModel,
    ClapTextConfig,
    PreTrainedTokenizerFast,
)

from clepdg_lib.audio.places import ENVIRONMENTS
from clepdg_lib.audio.waves import LEVEL_DB, SAMPLE_RATE, read_audio, rms_db
from clepdg_lib.captions import CANONICAL, WORDS
from clepdg_lib.files import PROJECT, verify_checksums

EMOSYNTH = PROJECT / "data" / "emosynth"
DATASHEET = EMOSYNTH / "README.md"


def load_script(name: str) -> ModuleType:
    path = PROJECT / "data" / "build" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"build_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def emosynth() -> ModuleType:
    return load_script("emosynth")


@pytest.fixture(scope="module")
def text_tower() -> ModuleType:
    return load_script("text_tower")


@pytest.fixture(scope="module")
def voices() -> ModuleType:
    return load_script("voices")


@pytest.fixture(scope="module")
def clips() -> pd.DataFrame:
    return pd.read_csv(EMOSYNTH / "clips.csv")


def test_emosynth_is_whole_and_small():
    assert not verify_checksums(EMOSYNTH)
    files = [path for path in EMOSYNTH.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8_000_000


def test_emosynth_table_lists_the_files(clips):
    files = {p.relative_to(EMOSYNTH).as_posix() for p in EMOSYNTH.rglob("*.ogg")}
    assert set(clips["path"]) == files and clips["path"].is_unique
    assert (clips["path"] == clips["clip"] + ".ogg").all()
    assert len(clips) == 1280
    assert clips["seconds"].between(1.5, 3.0).all()
    assert not clips.isna().any().any()


def test_emosynth_files_match_the_table(clips):
    for row in clips.sample(40, random_state=0).itertuples():
        info = soundfile.info(EMOSYNTH / row.path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "OPUS")
        wave = read_audio(EMOSYNTH / row.path)
        assert len(wave) / SAMPLE_RATE == pytest.approx(row.seconds, abs=0.002)
        assert rms_db(wave) == pytest.approx(LEVEL_DB, abs=1.5)


def test_emosynth_voices_have_one_domain_and_one_split(clips):
    assert clips["speaker"].nunique() == 20 and clips["text"].nunique() == 24
    for column in ("domain", "split", "sex", "engine"):
        assert (clips.groupby("speaker")[column].nunique() == 1).all()
    assert clips["engine"].nunique() == clips["speaker"].nunique()
    assert set(clips["domain"]) == set(ENVIRONMENTS)
    for _, domain in clips.drop_duplicates("speaker").groupby("domain"):
        assert sorted(domain["split"]) == ["test", "train", "train", "validation"]
        assert sorted(domain["sex"]) == ["female", "female", "male", "male"]


def test_emosynth_text_is_independent_of_the_emotion(clips):
    groups = clips.groupby(["speaker", "text"])
    counts = groups[["emotion", "intensity"]].value_counts()
    assert (counts == 1).all() and len(counts) == len(clips)
    assert (groups.size() == 8).all()


def test_emosynth_datasheet_agrees_with_the_audio(emosynth, clips):
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


def test_a_clip_is_the_same_alone_and_among_others(
    emosynth, clips, tmp_path, monkeypatch
):
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


def test_emosynth_is_built_with_the_real_engines(emosynth, clips, tmp_path):
    pytest.importorskip("pyworld", reason="only building emosynth needs pyworld")
    some = clips[clips["engine"] == "flite slt"].head(8)
    try:
        table = emosynth.build(tmp_path, some)
    except FileNotFoundError:
        pytest.skip("flite is not installed; only building emosynth needs it")
    assert table["seconds"].between(1.5, 3.0).all()
    assert table["emotion"].nunique() == 4


def test_another_seed_gives_another_manner(emosynth, clips):
    row = clips.iloc[0]
    first, again, other = (emosynth.draw_manner(row, seed=s) for s in (1, 1, 2))
    assert first.shape == (len(emosynth.CUES),)
    assert (first == again).all() and (first != other).all()


def test_emotions_differ_as_the_literature_says(emosynth, clips):
    names = list(emosynth.CUES)
    drawn = {
        emotion: np.mean(
            [emosynth.draw_manner(r, seed=0) for _, r in rows.iterrows()], 0
        )
        for emotion, rows in clips.groupby("emotion")
    }
    pitch, tilt = names.index("pitch"), names.index("tilt")
    assert drawn["happy"][pitch] > drawn["angry"][pitch] > drawn["sad"][pitch]
    assert drawn["angry"][tilt] > drawn["neutral"][tilt] > drawn["sad"][tilt]


def test_a_missing_engine_is_named(emosynth, monkeypatch):
    monkeypatch.setattr(emosynth.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="apt-get install espeak-ng"):
        emosynth.read_aloud("espeak-ng en-us+f2", "Hello.")


def test_the_report_goes_between_the_markers(emosynth, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("<!-- measured: begin -->\nold\n<!-- measured: end -->\nkept\n")
    emosynth.write_report(path, "new \\1")
    text = path.read_text()
    assert "new \\1" in text and "old" not in text and text.endswith("kept\n")
    path.write_text("no markers")
    with pytest.raises(ValueError, match="measured: begin"):
        emosynth.write_report(path, "new")


def test_the_report_has_a_row_per_domain(emosynth, clips):
    domains = clips["domain"].unique()
    scores = pd.DataFrame({"domain": domains, "inside": 0.7, "outside": 0.5})
    text = emosynth.report(EMOSYNTH, scores)
    assert "1,280 clips, 20 voices, 24 sentences" in text
    assert text.count("| 128 / 64 / 64 | 0.70 | 0.50 |") == 5
    assert text.endswith("costs 20 points.")


@pytest.fixture(scope="module")
def held_out() -> list[str]:
    table = PROJECT / "tests" / "data" / "emotion_paraphrases.csv"
    return pd.read_csv(table)["sentence"].tolist()


@pytest.fixture(scope="module")
def pairs(text_tower) -> list[tuple[str, str]]:
    return text_tower.write_sentences()


def test_thousands_of_sentences_cover_every_emotion(pairs):
    assert len(pairs) == len(set(pairs)) > 4000
    counts = pd.Series([emotion for _, emotion in pairs]).value_counts()
    assert set(counts.index) == set(WORDS) and counts.min() > 100
    assert not any("{" in sentence for sentence, _ in pairs)


def test_the_same_seed_gives_the_same_sentences(text_tower, pairs):
    assert text_tower.write_sentences(seed=0) == pairs
    assert text_tower.write_sentences(seed=4) != pairs


def test_pronouns_and_articles_agree(text_tower):
    woman = ["the woman", "was", "is", "her", "her", "she", "herself"]
    sentence = text_tower.fill_frame("{he} {is} {x}", "beside {himself}", woman)
    assert sentence == "the woman is beside herself"
    somebody = ["somebody", "was", "is", "their", "them", "they", "themselves"]
    frame = "{he} {is} not sad, {he2} {is} a {x} soul"
    sentence = text_tower.fill_frame(frame, "angry", somebody)
    assert sentence == "somebody is not sad, they are an angry soul"


def test_no_training_sentence_is_held_out(text_tower, pairs, held_out):
    sentences = [sentence for sentence, _ in pairs]
    assert text_tower.drop_held_out(sentences) == sentences
    assert not set(sentences) & set(held_out)
    disguised = held_out[7].upper() + "."
    assert text_tower.drop_held_out(["a harmless one", disguised]) == ["a harmless one"]


def test_sentences_close_to_a_held_out_one_are_dropped(text_tower):
    near = ("yesterday he slams the door and curses", "angry")  # one more word
    far = ("the door is open", "neutral")
    assert text_tower.drop_close([near, far]) == [far]


def test_the_caption_corpus_holds_emotions_and_mixtures(text_tower):
    captions = text_tower.caption_corpus(n_mixed=50)
    assert len(captions) == len(set(captions)) > 1000
    assert CANONICAL.format(emotion="sad") in captions
    assert f"{CANONICAL.format(emotion='sad')} over the telephone" in captions
    assert captions == text_tower.caption_corpus(n_mixed=50)


def test_wordnet_is_read_or_asked_for(text_tower, tmp_path):
    with pytest.raises(SystemExit, match="wordnet-base"):
        text_tower.read_wordnet(tmp_path)
    line = '00001740 03 n 01 big_hall 0 000 | a large room; "the hall was full"\n'
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text("  1 a licence\n" + line)
    sentences = text_tower.read_wordnet(tmp_path)
    assert sentences == ["the hall was full", "a large room", "big hall: a large room"]


def test_reduced_targets_keep_cosines(text_tower):
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(200, 8, generator=generator)
    full = F.normalize(low @ torch.randn(8, 30, generator=generator), dim=-1)
    targets = text_tower.reduce(full, dim=8)
    assert targets.shape == (200, 8)
    torch.testing.assert_close(targets @ targets.T, full @ full.T, atol=1e-4, rtol=0)


def test_sharpened_targets_separate_emotions(text_tower):
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
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(specials)
    settings = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings)
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=24,
        num_hidden_layers=6,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def small_run(text_tower, teacher, tmp_path_factory):
    """Both stages on a few sentences: the folder, the encoder, its start, the log."""
    folder = tmp_path_factory.mktemp("tower")
    labels = dict(text_tower.write_sentences()[::60])
    own = [CANONICAL.format(emotion=e) for e in text_tower.EMOTIONS]
    labels |= dict(zip(own, text_tower.EMOTIONS, strict=True))
    sentences = [
        *labels,
        *(f"the speaker is in a {w}" for w in ["hall", "car", "room"]),
    ]
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
        captions, glosses = own, sentences[-3:]
        log += text_tower.learn_emotions(encoder, known, captions, glosses, **run)
    text_tower.write_tower(encoder, folder, log=log)
    return folder, encoder, start, log, rows


def test_the_student_starts_from_the_teachers_layers(text_tower, teacher, small_run):
    _, encoder, _, _, rows = small_run
    fresh = text_tower.start_encoder(teacher, encoder.tokenizer, rows)
    own, weights = (
        fresh.text_model.state_dict(),
        load_file(teacher / "model.safetensors"),
    )
    name = "encoder.layer.{}.output.dense.weight"
    for here, there in enumerate(text_tower.LAYERS):
        assert torch.equal(own[name.format(here)], weights[name.format(there)])
    table = "embeddings.word_embeddings.weight"
    assert torch.equal(own[table], weights[table][rows])
    positions = "embeddings.position_embeddings.weight"
    assert torch.equal(own[positions][1], weights[positions][0])


def test_both_stages_are_logged_and_move_the_student(small_run):
    folder, encoder, start, log, _ = small_run
    assert [row["stage"] for row in log] == ["distil", "emotions"]
    assert all(np.isfinite(v) for row in log for v in row.values() if v != row["stage"])
    assert start.shape[1] == 12
    torch.testing.assert_close(start.norm(dim=-1), torch.ones(len(start)))
    logged = pd.read_csv(folder / "text_log.csv")
    assert list(logged["stage"]) == ["distil", "emotions"]


def test_the_written_tower_loads_as_a_clap_model(small_run):
    folder, encoder, _, _, _ = small_run
    weights = load_file(folder / "text_tower.safetensors")
    assert {k.split(".")[0] for k in weights} == {"text_model", "text_projection"}
    assert all(value.dtype == torch.float16 for value in weights.values())
    config = ClapTextConfig.from_json_file(folder / "text_config.json")
    clap = ClapModel(
        ClapConfig(
            text_config=config.to_dict(),
            audio_config={"hidden_size": 64, "patch_embeds_hidden_size": 8},
            projection_dim=12,
        )
    ).eval()
    missing = clap.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys
    assert not [k for k in missing.missing_keys if "text" in k and "_ids" not in k]
    sentences = [CANONICAL.format(emotion="sad"), "a voice"]
    batch = AutoTokenizer.from_pretrained(folder)(
        sentences, padding=True, return_tensors="pt"
    )
    points = clap.get_text_features(**batch).pooler_output
    cosines = (F.normalize(points, dim=-1) * encoder.embed(sentences)).sum(-1)
    assert (cosines > 0.99).all()


def voice(seconds: float, *, pitch: float = 140.0) -> np.ndarray:
    """A buzz with the spectrum of a voice, and a short pause in each second."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 12))
    return (0.1 * wave * (time % 1 < 0.9)).astype(np.float32)


def test_a_voice_has_a_pitch_and_noise_has_none(voices):
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE)
    assert voices.is_voice(voice(2)) and voices.is_voice(voice(2, pitch=400))
    assert not voices.is_voice(noise.astype(np.float32))
    assert not voices.is_voice(0.001 * voice(2)), "too quiet to tell"


def test_short_recordings_are_joined_and_long_ones_cut(voices):
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


def test_dialogue_of_the_amazon_queen_is_read(voices, tmp_path):
    file = io.BytesIO()
    soundfile.write(file, voice(1.0), SAMPLE_RATE, format="FLAC")
    data = file.getvalue()
    names = [b"570012P1.SB", b"570013J1.SB", b"MUSIC.SB", b"PICTURE.PCX"]
    start = 15 + 21 * len(names)
    table = b"".join(struct.pack(">12sxII", n, start, len(data)) for n in names)
    head = b"QTBL" + bytes(9) + struct.pack(">H", len(names))
    (tmp_path / "queen.1c").write_bytes(head + table + data)
    recordings = list(voices.read_queen(tmp_path, voices.SOURCES[-1]))
    assert [(s, lang) for s, lang, _ in recordings] == [("570P", "en"), ("joe", "en")]
    assert all(abs(len(wave) - SAMPLE_RATE) < 100 for _, _, wave in recordings)


def test_gathered_voices_are_one_table(voices, tmp_path, monkeypatch):
    source = voices.Source("prompts", "1", r"/(?P<voice>\w+)/\d", "fr", "female")
    folder = tmp_path / "packages" / "prompts" / "june"
    folder.mkdir(parents=True)
    for i in range(3):
        soundfile.write(
            folder / f"{i}.wav", voice(1.2, pitch=140 + 20 * i), SAMPLE_RATE
        )
    (folder / "8.wav").write_bytes(b"no sound")
    soundfile.write(folder / "9.wav", voice(0.02), SAMPLE_RATE)
    monkeypatch.setattr(voices, "SOURCES", (source,))
    monkeypatch.setattr(sys, "argv", ["voices.py", "--out", str(tmp_path)])
    voices.main()
    table = pd.read_csv(tmp_path / "clips.csv")
    assert len(table) == 3 and set(table["speaker"]) == {"prompts:june"}
    assert set(table["sex"]) == {"female"} and set(table["language"]) == {"fr"}
    assert all(len(read_audio(tmp_path / p)) > 1.1 * SAMPLE_RATE for p in table["path"])


def test_packages_are_unpacked_with_the_archives_in_them(voices, tmp_path, monkeypatch):
    def run(command, **_):
        if command[0] == "dpkg-deb":
            command[-1].mkdir()
            with zipfile.ZipFile(command[-1] / "data.pk3", "w") as archive:
                archive.writestr("sound/player/orc/taunt.wav", content.getvalue())
        else:
            (tmp_path / "game_1_all.deb").touch()

    content = io.BytesIO()
    soundfile.write(content, voice(1.5), SAMPLE_RATE, format="WAV")
    monkeypatch.setattr(voices.subprocess, "run", run)
    source = voices.Source("game", "1", voices.PLAYERS, "en")
    folder = voices.download(source, tmp_path)
    ((speaker, language, wave),) = voices.read_files(folder, source)
    assert (speaker, language) == ("orc", "en")
    assert abs(len(wave) - 1.5 * SAMPLE_RATE) < 100


def test_packages_that_apt_lacks_are_left_out(voices, tmp_path, monkeypatch, capsys):
    def run(command, **_):
        raise subprocess.CalledProcessError(100, command)

    monkeypatch.setattr(voices.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["voices.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="apt-get update"):
        voices.main()
    assert "gcin-voice is left out" in capsys.readouterr().err
