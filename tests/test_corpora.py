"""Corpora: labels as their owners mean them, nothing lost silently, fair splits."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from clepdg_lib import corpora
from clepdg_lib.audio import AudioError
from clepdg_lib.captions import EMOTIONS
from clepdg_lib.corpora import CORPORA, SPLITS, Corpus, CorpusError, load_corpus

PUBLISHED = [name for name in CORPORA if name != "emosynth"]
DIALOGUE = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"  # labels in IEMOCAP


def rows(corpus, *columns):
    return sorted(corpus.clips[list(columns)].itertuples(index=False, name=None))


def problems(corpus, *, known=None):
    """Name of each file that was left out, and why."""
    table = corpus.problems
    if known is not None:
        table = table[table["known"] == known]
    return {Path(p).name: why for p, why in table[["path", "problem"]].to_numpy()}


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    """No test finds a corpus by accident."""
    monkeypatch.delenv("CLEPDG_CORPORA", raising=False)


@pytest.fixture
def load(monkeypatch, tmp_path_factory):
    """Load a known corpus from any folder, and check that all its files are known."""

    def load(name, folder, *, above=False, strict=True, **options):
        home = folder if above else tmp_path_factory.mktemp("home")
        if not above:
            (home / name).symlink_to(folder)
        monkeypatch.setenv("CLEPDG_CORPORA", str(home))
        corpus = load_corpus(name, **options)
        assert not strict or corpus.problems["known"].all()
        return corpus

    return load


@pytest.fixture
def people(make_corpus):
    """Two emotions, five speakers, two clips each."""
    names = ("anna", "bert", "cleo", "dora", "emil")
    files = [
        f"{e}/{name}/{n}" for e in ("Anger", "sad") for name in names for n in (1, 2)
    ]
    return make_corpus(*(f"{file}.wav" for file in files), folder="people")


# --- published corpora, as their owners lay them out ----------------------------
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_ravdess(make_corpus, write_wave, suffix, caplog, load):
    root = make_corpus(
        f"Actor_01/03-01-05-02-01-01-01.{suffix}",
        f"Actor_02/03-01-08-01-02-01-02.{suffix}",
        f"Actor_02/03-02-03-01-02-01-02.{suffix}",  # a song
        f"Actor_07/03-01-03-01-02-01-07.{suffix}",
        f"Actor_07/03-01-03-01-02-02-07.{suffix}",  # the owners' duplicate
    )
    write_wave(root / f"nested/Actor_01/03-01-05-02-01-01-01.{suffix}")
    twice = problems(load("ravdess", root, strict=False), known=False)
    (why,) = twice.values()
    assert why.startswith("a clip of this name is read: ") and "nested" not in why
    caplog.clear()
    shutil.rmtree(root / "nested")
    corpus = load("ravdess", root)
    assert rows(corpus, "clip", "emotion", "speaker", "sex")[:2] == [
        ("Actor_01/03-01-05-02-01-01-01", "angry", "ravdess-01", "male"),
        ("Actor_02/03-01-08-01-02-01-02", "surprised", "ravdess-02", "female"),
    ]
    assert len(corpus) == 3 and set(corpus.clips["language"]) == {"English"}
    assert set(corpus.clips["domain"]) == {"ravdess"}
    assert sorted(problems(corpus, known=True).values()) == [
        "same recording as 03-01-03-01-02-01-07",
        "video or song",
    ]
    assert not caplog.records  # documented by the owners: no warning


def test_tess(make_corpus, load):
    root = make_corpus(
        "OAF_angry/OAF_back_angry.wav",
        "OAF_Pleasant_surprise/OAF_back_ps.wav",
        "OAF_neutral/OA_bite_neutral.wav",
        "YAF_fear/YAF_young_fear.wav",
        folder="TESS Toronto emotional speech set data",
    )
    corpus = load("tess", root.parent, above=True)
    assert rows(corpus, "emotion", "speaker", "sex", "text")[1:3] == [
        ("fearful", "tess-YA", "female", "young"),
        ("neutral", "tess-OA", "female", "bite"),
    ]
    assert corpus.emotions == ("angry", "fearful", "neutral", "surprised")
    assert set(corpus.clips["split"]) == {"train", "test"}  # of two speakers


@pytest.mark.parametrize("speech", ["wav/", "speech/", ""])
def test_emodb_and_its_laryngograph_signals(make_corpus, caplog, load, speech):
    root = make_corpus(
        *(f"{speech}03a01{letter}a.wav" for letter in "WLEAFTN"),
        *(f"laryngo/03a01{letter}a.wav" for letter in "WLEAFTN"),
        "laryngo/08a01Wa.wav",  # of which there is no speech
        "later/denoised/03a01Wa.wav",
    )
    (root / "erkennung.txt").write_text("not audio")
    corpus = load("emodb", root, strict=False)
    names = [f"{speech}03a01{letter}a" for letter in "WLEAFTN"]
    labels = ["angry", "bored", "disgusted", "fearful", "happy", "sad", "neutral"]
    assert rows(corpus, "clip", "emotion") == sorted(zip(names, labels, strict=True))
    assert set(rows(corpus, "speaker", "sex")) == {("emodb-03", "male")}
    reasons = corpus.problems["problem"].value_counts()
    assert reasons["a signal of the larynx, no speech"] == 8
    (twice,) = (why for why in reasons.index if "a clip of this name is read" in why)
    assert twice.endswith(f"/{names[0]}.wav")
    assert len(caplog.records) == (speech != "wav/")  # else, which one is meant?


def test_emotale_has_bilingual_speakers(make_corpus, load):
    names = ("DK_004_A_5", "EN_004_B_1", "DK_001_H_2", "EN_003_N_2")
    root = make_corpus(*(f"wav/{name}.wav" for name in names))
    (root / "speaker_info.csv").write_text("speaker,gender,age\n001,F,22\n004,M,24\n")
    corpus = load("emotale", root)
    assert rows(corpus, "emotion", "speaker", "sex", "language", "sentence") == [
        ("angry", "emotale-004", "male", "Danish", 5),
        ("bored", "emotale-004", "male", "English", 1),
        ("happy", "emotale-001", "female", "Danish", 2),
        ("neutral", "emotale-003", "", "English", 2),
    ]


def test_nemo(make_corpus, load):
    names = ("EB0_fear_74.opus", "EB0_fear_74", "KS0_x")
    root = make_corpus(*(f"samples/{name}.wav" for name in names))
    (root / "data.tsv").write_text(
        "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
        "EB0_fear_74.wav\tfear\tŻycie.\tżycie\t        EB0\tfemale\t27\n"
        "EB0_anger_75.wav\tanger\tBaza.\tbaza\tEB0\tfemale\t27\n",
        encoding="utf-8",
    )
    corpus = load("nemo", root, strict=False)
    (clip,) = rows(corpus, "emotion", "speaker", "sex", "language", "text")
    assert clip == ("fearful", "nemo-EB0", "female", "Polish", "Życie.")
    reasons = problems(corpus, known=False)
    assert len(reasons) == 3 and "EB0_anger_75" in reasons["data.tsv"]
    assert reasons["KS0_x.wav"] == "not listed in data.tsv"


def test_cremad(make_corpus, load):
    root = make_corpus(
        "AudioWAV/1001_DFA_ANG_XX.wav",
        "AudioWAV/1002_IEO_HAP_HI.wav",
        "AudioWAV/1040_ITH_SAD_X.wav",
        "AudioMP3/1001_DFA_ANG_XX.mp3",  # the same clip again
        folder="CREMA-D-master",
    )
    (root / "VideoDemographics.csv").write_text(
        "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not Hispanic\n"
        "1002,21,Female,Caucasian,Not Hispanic\n"
    )
    corpus = load("cremad", root.parent, above=True)
    assert rows(corpus, "emotion", "speaker", "sex", "sentence", "intensity") == [
        ("angry", "cremad-1001", "male", "DFA", "XX"),
        ("happy", "cremad-1002", "female", "IEO", "HI"),
        ("sad", "cremad-1040", "", "ITH", "X"),
    ]


@pytest.mark.parametrize("form", ["AudioData/{}/{}.wav", "ALL/{}_{}.wav"])
def test_savee(make_corpus, form, load):
    root = make_corpus(*(form.format("DC", n) for n in ("a01", "d01", "sa01", "su01")))
    corpus = load("savee", root)
    assert corpus.emotions == ("angry", "disgusted", "sad", "surprised")
    assert set(rows(corpus, "speaker", "sex")) == {("savee-DC", "male")}


@pytest.fixture
def iemocap(make_corpus):
    names = ("Ses01F_impro01_F000", "Ses01F_impro01_M000", "Ses01F_impro01_F001")
    root = make_corpus(
        *(f"Session1/sentences/wav/Ses01F_impro01/{name}.wav" for name in names),
        "Session1/dialog/wav/Ses01F_impro01.wav",  # whole dialogues are no clips
        folder="IEMOCAP_full_release",
    )
    labels = root / DIALOGUE
    labels.parent.mkdir(parents=True)
    labels.write_text(
        "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\n"
        "C-E2:\tNeutral;\t()\n"
        "[7.57 - 10.47]\tSes01F_impro01_M000\texc\t[2.5000, 2.5000, 2.5000]\n"
        "[11.0 - 12.0]\tSes01F_impro01_F001\txxx\t[2.5000, 2.5000, 2.5000]\n"
    )
    return root


@pytest.mark.parametrize("above", [False, True])
def test_iemocap(iemocap, above, load, write_wave):
    root = {"folder": iemocap.parent if above else iemocap, "above": above}
    hidden = (iemocap / DIALOGUE).with_name("._Ses01F_impro01.txt")
    shutil.copy(iemocap / DIALOGUE, hidden)
    for folder in ("sentences/denoised", "a_egg"):  # other signals of the same clip
        write_wave(iemocap / "Session1" / folder / "Ses01F_impro01_F000.wav")
    corpus = load("iemocap", **root)
    assert set(corpus.clips["path"].str.contains("sentences/wav")) == {True}
    assert rows(corpus, "emotion", "speaker", "sex") == [
        ("excited", "iemocap-Ses01M", "male"),
        ("neutral", "iemocap-Ses01F", "female"),
        ("undecided", "iemocap-Ses01F", "female"),
    ]
    for key in ("exc", "excited", "Excitement"):  # as written, or normalised
        mapped = load("iemocap", **root, emotion_map={key: "Happy"})
        assert mapped.select(emotions=EMOTIONS).emotions == ("happy", "neutral")


def test_iemocap_reports_labels_and_recordings_without_a_partner(iemocap, load):
    labels = iemocap / DIALOGUE
    labels.write_text(labels.read_text().replace("impro01_M000", "impro01_M009"))
    corpus = load("iemocap", iemocap, strict=False)
    reasons = problems(corpus)
    assert len(corpus) == 2 and "M009" in reasons["Ses01F_impro01.txt"]
    assert "EmoEvaluation" in reasons["Ses01F_impro01_M000.wav"]
    shutil.rmtree(iemocap / "Session1/dialog")
    with pytest.raises(CorpusError, match="EmoEvaluation.*full release"):
        load("iemocap", iemocap, strict=False)


def meld_table(*turns):
    head = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season"
    return "\n".join([head, *(f"{i},{turn},8" for i, turn in enumerate(turns))])


def test_meld_with_files_that_macos_leaves_behind(make_corpus, load):
    root = make_corpus(
        "train/train_splits/dia0_utt0.wav",
        "train/train_splits/dia0_utt1.wav",
        "dev_splits_complete/dia0_utt0.wav",
        "output_repeated_splits_test/dia0_utt0.wav",
        "output_repeated_splits_test/final_videos_testdia0_utt0.wav",
        folder="MELD.Raw",
    )
    train = ('"Hi, all",Joey,joy,positive,0,0', "No.,Monica,anger,negative,0,1")
    (root / "train/train_sent_emo.csv").write_text(meld_table(*train))
    (root / "train/._train_sent_emo.csv").write_bytes(b"\x00\x05\x16\x07")
    (root / "train/train_splits/._dia0_utt0.wav").write_bytes(b"\x00\x05\x16\x07")
    dev, test = "What?,Joey,surprise,negative,0,0", "Oh.,Ross,sadness,negative,0,0"
    (root / "dev_sent_emo.csv").write_text(meld_table(dev))
    (root / "test_sent_emo.csv").write_text(meld_table(test))
    corpus = load("meld", root)
    assert rows(corpus, "clip", "emotion", "speaker", "text", "owners_split") == [
        ("dev_splits_complete/dia0_utt0", "surprised", "meld-Joey", "What?", "dev"),
        (
            "output_repeated_splits_test/final_videos_testdia0_utt0",
            *("sad", "meld-Ross", "Oh.", "test"),
        ),
        ("train/train_splits/dia0_utt0", "happy", "meld-Joey", "Hi, all", "train"),
        ("train/train_splits/dia0_utt1", "angry", "meld-Monica", "No.", "train"),
    ]
    # Joey is in two of the owners' parts, and in one split here.
    assert corpus.clips.groupby("speaker")["split"].nunique().max() == 1
    assert problems(corpus)["._train_sent_emo.csv"] == "hidden file or folder"
    for sound in root.rglob("*.wav"):
        sound.unlink()
    with pytest.raises(CorpusError, match="lacks sound files.*convert video"):
        load("meld", root, strict=False)


def test_emogator_keeps_thirty_categories_unless_mapped(make_corpus, load):
    root = make_corpus(*(f"data/mp3/000001-{c:02d}-1.wav" for c in range(1, 31)))
    corpus = load("emogator", root)
    assert len(corpus.emotions) == 30 and "happy" not in corpus.emotions
    names = dict(corpus.clips[["clip", "emotion"]].to_numpy())
    wanted = {"02": "amusement", "03": "angry", "18": "neutral", "23": "romantic love"}
    assert {key: names[f"data/mp3/000001-{key}-1"] for key in wanted} == wanted
    bursts = ("amusement", "ecstasy", "elation", "triumph")
    mapping = dict.fromkeys(bursts, "happy")
    four = load("emogator", root, emotion_map=mapping)
    four = four.select(emotions=EMOTIONS)
    assert four.emotions == EMOTIONS and len(four.select(emotions="happy")) == 4


def test_emosynth_is_read_from_its_table(make_corpus, monkeypatch):
    root = make_corpus("audio/x.ogg", "audio/y.ogg", folder="emosynth")
    (root / "clips.csv").write_text(
        "path,clip,emotion,intensity,speaker,sex,engine,domain,split,text,seconds\n"
        "audio/x.ogg,x,angry,2,v1,female,flite,street,train,Hello.,2.5\n"
        "audio/y.ogg,y,sad,1,v2,male,espeak,hall,test,Hello.,1.5\n"
    )
    monkeypatch.setenv("CLEPDG_DATA", str(root.parent))
    corpus = load_corpus("emosynth")
    assert rows(corpus, "clip", "domain", "split", "speaker", "language", "engine") == [
        ("x", "street", "train", "v1", "English", "flite"),
        ("y", "hall", "test", "v2", "English", "espeak"),
    ]
    assert corpus.clips["intensity"].tolist() == [2, 1]


# --- a corpus of one's own ------------------------------------------------------
def test_a_folder_of_emotions_with_and_without_speakers(people, make_corpus, caplog):
    corpus = load_corpus(people)
    assert corpus.emotions == ("angry", "sad")
    assert len(corpus) == 20 and corpus.name == "people"
    assert set(corpus.clips["speaker"]) == {"anna", "bert", "cleo", "dora", "emil"}
    assert set(corpus.clips["split"]) == set(SPLITS)
    assert list(corpus.clips.columns[: len(corpora.COLUMNS)]) == list(corpora.COLUMNS)
    assert corpus.clips["path"].map(os.path.isabs).all()
    mapped = load_corpus(people, emotion_map={"anger": "furious"})
    assert mapped.emotions == ("furious", "sad") and not caplog.records
    root = make_corpus("happy/a.wav", "happy/b.wav", "sad/a.wav", "loose.wav")
    nobody = load_corpus(str(root))  # clips without a speaker stay in one split
    assert set(nobody.clips["split"]) == {"train"}
    assert problems(nobody) == {"loose.wav": "lies outside an emotion's folder"}


def test_folders_for_train_and_test_are_splits(make_corpus, caplog):
    names = ("train/angry/anna/a.wav", "Test/sad/bert/b.wav", "val/sad/carl/c.wav")
    corpus = load_corpus(make_corpus(*names))
    assert rows(corpus, "split", "emotion", "speaker") == [
        ("test", "sad", "bert"),
        ("train", "angry", "anna"),
        ("validation", "sad", "carl"),
    ]
    assert not caplog.records
    nobody = load_corpus(make_corpus("train/sad/a.wav", "test/sad/b.wav", folder="n"))
    assert set(nobody.clips["split"]) == {"train", "test"}
    assert "splits may share" in caplog.text
    inside = load_corpus(make_corpus("sad/train/a.wav", "sad/test/b.wav", folder="i"))
    assert rows(inside, "split") == [("test",), ("train",)]
    assert inside.clips["speaker"].str.endswith("-unknown").all()
    people = load_corpus(make_corpus("sad/Dev/a.wav", "sad/Ana/b.wav", folder="p"))
    assert set(people.clips["speaker"]) == {"Dev", "Ana"}  # a name, not a split
    with pytest.raises(CorpusError, match=r"sad/c.wav has no split; give every clip"):
        load_corpus(make_corpus("train/sad/a.wav", "sad/c.wav", folder="m"))


def test_an_unknown_label_is_left_out_unless_mapped(make_corpus, caplog):
    root = make_corpus("Angyr/a.wav", "SADNESS/b.wav", "Unhappy/c.wav", "calm/d.wav")
    corpus = load_corpus(root)
    assert corpus.emotions == ("calm", "sad")
    reason = problems(corpus, known=False)["a.wav"]
    assert reason == "emotion 'angyr' is unknown; pass emotion_map={'angyr': ...}"
    assert reason in caplog.text
    assert "2 files left out" in caplog.text
    mapping = {"ANGYR": "Anger", "unhappy": "unhappy"}
    caplog.clear()
    mapped = load_corpus(root, emotion_map=mapping)
    assert not len(mapped.problems) and not caplog.records
    assert mapped.emotions == ("angry", "calm", "sad", "unhappy")
    load_corpus(root, emotion_map={"angyr": "angry", "anger": "angry"})
    assert "no clip is labelled ['anger'] of emotion_map; the labels are" in caplog.text
    with pytest.raises(CorpusError, match="emotion_map has {'angyr': None}; give an"):
        load_corpus(root, emotion_map={"angyr": None})
    root = make_corpus("exc/a.wav", "excited/b.wav", "Excitement/c.wav", folder="exc")
    mapping = {"exc": "joy", "excited": "calm"}
    for given in (mapping, dict(reversed(mapping.items()))):
        corpus = load_corpus(root, emotion_map=given)  # comes before the spelling
        assert corpus.clips["emotion"].tolist() == ["calm", "happy", "calm"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("ravdess", "Actor_01/03-01-05-02-01-01-01"),
        ("tess", "OAF_angry/OAF_back_angry"),
        ("emodb", "wav/03a01Fa"),
    ],
)
def test_folders_without_an_emotion_name_the_ways_out(make_corpus, name, file, caplog):
    root = make_corpus(f"{file}.wav")
    ways = "pass emotion_map={'.*clips.csv.*emodb.*loaded by name"
    with pytest.raises(CorpusError, match=ways):
        load_corpus(root)
    assert f"{root} has the file names of {name}; move it below" in caplog.text
    assert f"load_corpus('{name}')" in caplog.text


def test_every_file_not_read_is_reported(make_corpus, tmp_path, caplog, monkeypatch):
    root = make_corpus("sad/a.wav", ".ipynb_checkpoints/b.wav", "__MACOSX/c.wav")
    other = make_corpus("d.wav", folder="other")
    (root / "sad/linked").symlink_to(other)
    (root / "sad/e.wav").symlink_to(other / "d.wav")
    (root / "sad/broken.wav").symlink_to(tmp_path / "nothing.wav")
    lost = ["g.M4A", "h.mp4", "nameless", ".take.wav"]
    for name in (*lost, "notes.txt", "._a.wav"):
        (root / "sad" / name).write_bytes(b"x")
    read = ["__x.wav", "h.wave", "i.AIF", "j.au", "k.oga", "l.caf"]
    for name in read:
        shutil.copy(make_corpus("x.wav", folder=name) / "x.wav", root / "sad" / name)
    with suppress(OSError, UnicodeError):
        (root / "sad" / os.fsdecode(b"\xfc.wav")).write_bytes(b"x")
        lost += [r"\xfc.wav"]

    def scan(path, inner=os.scandir):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return inner(path)

    (root / "sad/locked").mkdir()
    monkeypatch.setattr(os, "scandir", scan)
    corpus = load_corpus(root)
    names = {Path(path).name for path in corpus.clips["path"]}
    assert names == {"a.wav", "e.wav", *read}  # linked files are read
    reasons = problems(corpus, known=False)
    assert set(reasons) == {"linked", "broken.wav", "locked", *lost}
    assert "Permission denied" in reasons["locked"]
    ignored = {".ipynb_checkpoints", "__MACOSX", "notes.txt", "._a.wav"}
    assert set(problems(corpus, known=True)) == ignored
    assert f"{len(lost) + 3} files left out" in caplog.text
    (root / "clips.csv").write_text("path,emotion\nsad/g.M4A,sad\n")
    listed = load_corpus(root)  # the list is its author's choice
    assert listed.problems["known"].all()
    assert rows(listed, "clip") == [("sad/g",)] and "g.M4A" not in problems(listed)


def test_a_csv_keeps_what_it_says(make_corpus):
    root = make_corpus("a/1.wav", "a/2.wav", "a/3.wav")
    (root / "clips.csv").write_text(
        "\ufeffpath,emotion,speaker,sex,domain,split,seconds\n"
        "a/1.wav,Happiness,01,F,kitchen,train,0.25\n"
        "a/2.wav,sad,02,Male,street,test,0.25\n"
        "a/9.wav,sad,02,,street,test,0.25\n",
        encoding="utf-8",
    )
    for given in (root, root / "clips.csv"):
        corpus = load_corpus(given)
        assert rows(corpus, "clip", "emotion", "speaker", "sex", "domain", "split") == [
            ("a/1", "happy", "01", "female", "kitchen", "train"),
            ("a/2", "sad", "02", "male", "street", "test"),
        ]
        assert corpus.clips["seconds"].tolist() == [0.25, 0.25]
        assert problems(corpus)["9.wav"].startswith("line 4")
    assert problems(load_corpus(root))["3.wav"] == "not listed in clips.csv"


def test_a_csv_may_hold_odd_names_and_columns(make_corpus):
    root = make_corpus("a/1.wav", "a/2.wav")
    (root / "list.csv").write_text(
        "path,emotion,self,intensity\n"
        f"a/1.wav,sad,x,1\n,sad,x,1\n{'n' * 300}.wav,sad,x,1\n~\0,sad,x,1\n"
        "a/2.wav,,x,1\n"
    )
    corpus = load_corpus(root / "list.csv")
    assert list(corpus.clips["clip"]) == ["a/1"] and corpus.name == "list"
    assert corpus.clips["self"].item() == "x"
    reasons = 3 * ["no such file"] + ["no emotion is given"]
    assert [p.split(": ")[-1] for p in corpus.problems["problem"]] == reasons
    for name in ("ravdes", "n" * 300):
        with pytest.raises(CorpusError, match=f"'{name}'.*no folder.*ravdess.*emoga"):
            load_corpus(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"path,emotion\n\xff\xfe\x00,sad\n", "cannot be read"),
        (b"path,feeling\na.wav,sad\n", "lacks"),
        (b'path,emotion\n"a.wav,sad\n', "cannot be read"),
        (b"path,emotion\na.wav,sad,7\n", "in quotes"),
    ],
)
def test_metadata_that_cannot_be_read_is_named(tmp_path, content, message):
    (tmp_path / "clips.csv").write_bytes(content)
    with pytest.raises(CorpusError, match=message) as error:
        load_corpus(tmp_path)
    assert "clips.csv" in str(error.value)


def test_names_from_anywhere_are_read(make_corpus):
    root = make_corpus("sad/ünï 🎤\nx.wav", "sad/" + "n" * 250 + ".WAV")
    (root / "sad/bad.wav").write_bytes(b"not a sound")
    corpus = load_corpus(root)
    assert len(corpus) == 3
    with pytest.raises(AudioError, match="bad.wav"):
        corpus.read(0)
    for i in (1, 2):
        assert abs(10 * corpus.read(i).square().mean().log10() + 26) < 0.1


# --- one recording, one clip ------------------------------------------------------
def test_the_same_bytes_or_names_twice_are_one_clip(make_corpus):
    root = make_corpus("sad/a.wav", "sad/b.wav", "sad/b.flac")
    shutil.copy(root / "sad/a.wav", root / "sad/c.wav")
    for name in ("d.wav", "e.wav"):
        (root / "sad" / name).write_bytes(b"")  # empty files are not alike
    corpus = load_corpus(root)
    assert [clip[-1] for clip in corpus.clips["clip"]] == ["a", "b", "d", "e"]
    assert problems(corpus)["c.wav"] == f"same recording as {root / 'sad/a.wav'}"
    table = "path,emotion\nsad/a.wav,sad\nsad/b.wav,sad\nsad/a.wav,angry\n"
    (root / "clips.csv").write_text(table)
    corpus = load_corpus(root)
    assert list(corpus.clips["clip"]) == ["sad/b"]
    assert "differ in emotion" in problems(corpus)["a.wav"]


@pytest.mark.parametrize("copy", ["angry/anna/c.wav", "sad/bert/c.wav"])
def test_the_same_bytes_under_two_labels_or_speakers_are_none(make_corpus, copy):
    root = make_corpus("sad/anna/a.wav", "sad/anna/b.wav", "angry/bert/d.wav")
    (root / copy).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / "sad/anna/a.wav", root / copy)
    corpus = load_corpus(root)
    assert sorted(corpus.clips["clip"]) == ["angry/bert/d", "sad/anna/b"]
    assert len(corpus.problems) == 2


# --- finding ------------------------------------------------------------------------
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_corpus_that_is_not_here(name, tmp_path, load, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("CLEPDG_CORPORA", str(tmp_path))
    with pytest.raises(CorpusError) as error:
        load_corpus(name)
    for part in (name, str(tmp_path), "CLEPDG_CORPORA", CORPORA[name]["citation"]):
        assert part in str(error.value)
    with pytest.raises(CorpusError):
        load(name, tmp_path / "empty")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLEPDG_CORPORA", str(tmp_path / "file"))
    with pytest.raises(CorpusError, match=r"in .*file \(Not a directory\). Set CLEPDG"):
        load_corpus(name)
    assert corpora.list_corpora()["found"].sum() == 1  # the bundled one
    with pytest.raises(CorpusError, match=r"no usable clip.*\.wav"):
        load_corpus(tmp_path)


@pytest.mark.parametrize("folder", ["emodb", "EMODB", "Emo-DB", "emodb_v2"])
def test_folders_of_any_case_are_found_and_listed(make_corpus, monkeypatch, folder):
    root = make_corpus("wav/03a01Fa.wav", "wav/03a01Wa.wav", folder=folder)
    monkeypatch.setenv("CLEPDG_CORPORA", str(root.parent))
    table = corpora.list_corpora().set_index("name")
    assert set(table.index) == {"emosynth", *PUBLISHED} and len(PUBLISHED) == 10
    assert table.loc["emodb", "found"] and table.loc["emodb", "clips"] == 2
    assert table.loc["emosynth", "clips"] == 1280
    assert not table.loc["ravdess", "found"]
    assert load_corpus("EmoDB").name == "emodb"


# --- the table ------------------------------------------------------------------------
def test_select_narrows_and_names_what_it_does_not_have(people):
    corpus = load_corpus(people)
    assert corpus.select(emotions="sad").emotions == ("sad",)
    assert len(corpus.select(speakers=["anna", "bert"])) == 8
    assert len(corpus.select(splits="test", emotions=EMOTIONS)) < len(corpus)
    assert len(corpus.select(domains="people")) == 20
    with pytest.raises(CorpusError, match="no emotion.*'sadd'.*'angry', 'sad'"):
        corpus.select(emotions=["sadd"])
    with pytest.raises(CorpusError, match="no domain.*'moon'.*people"):
        corpus.select(domains="moon")
    with pytest.raises(CorpusError, match="no split.*'dev'"):
        corpus.select(splits="dev")


def test_no_speaker_can_be_in_two_splits(people):
    corpus = load_corpus(people)
    leaky = corpus.clips.assign(split=["train", "test"] * 10)
    part = corpus.select(emotions="Sadness")
    part.clips["split"] = leaky["split"]  # a selection is a copy of its rows
    assert corpus.select(splits="train").emotions
    with pytest.raises(CorpusError, match="more than one split"):
        part.select(splits="test")
    with pytest.raises(CorpusError, match="more than one split"):
        Corpus("leaky", leaky)
    with pytest.raises(CorpusError, match="lacks the columns"):
        Corpus("bare", leaky.drop(columns="speaker"))
    unlabelled = corpus.clips.assign(emotion=[None, *corpus.clips["emotion"][1:]])
    with pytest.raises(CorpusError, match="1.wav lacks its emotion or speaker"):
        Corpus("gaps", unlabelled)
    (people / "clips.csv").write_text(
        "path,emotion,speaker,split\n"
        "sad/anna/1.wav,sad,anna,train\nsad/anna/2.wav,sad,anna,test\n"
    )
    with pytest.raises(CorpusError, match="anna"):
        load_corpus(people)


@pytest.mark.parametrize("n_speakers", [1, 2, 3, 4, 9, 24])
@pytest.mark.parametrize("seed", [0, 1])
def test_splits_are_by_speaker_and_repeatable(n_speakers, seed):
    generator = np.random.default_rng(n_speakers)
    speakers = generator.integers(0, n_speakers, 400).astype(str)
    clips = pd.DataFrame({"speaker": speakers})
    clips["sex"] = ["female" if int(s) % 2 else "male" for s in clips["speaker"]]
    split = corpora.split_speakers(clips, seed=seed)
    assert split.groupby("speaker")["split"].nunique().max() == 1
    again = corpora.split_speakers(clips.sample(frac=1, random_state=1), seed=seed)
    assert (again["split"].sort_index() == split["split"]).all()
    assert "split" not in clips
    expected = {1: {"train"}, 2: {"train", "test"}}.get(n_speakers, set(SPLITS))
    assert set(split["split"]) == expected
    if n_speakers >= 9:
        shares = split["split"].value_counts(normalize=True)
        assert abs(shares["train"] - 0.6) < 0.1 and abs(shares["test"] - 0.2) < 0.1
        for _, part in split.groupby("split"):
            n_each = part.drop_duplicates("speaker")["sex"].value_counts()
            assert n_each.max() - n_each.get("male", 0) <= 1 or len(n_each) == 1


def test_one_speaker_with_most_of_the_clips_leaves_no_split_empty():
    for seed in range(8):
        clips = pd.DataFrame({"speaker": ["lead"] * 90 + list("bbbbcccddd")})
        assert set(corpora.split_speakers(clips, seed=seed)["split"]) == set(SPLITS)


# --- reading -----------------------------------------------------------------------
def test_clips_are_read_at_the_rate_that_is_asked_for(make_corpus):
    root = make_corpus("sad/a.wav")
    time = np.arange(48_000) / 48_000
    tone = (0.3 * np.sin(2 * np.pi * 12_000 * time)).astype(np.float32)
    soundfile.write(root / "sad/a.wav", tone, 48_000)
    corpus = load_corpus(root)
    high = corpus.read(0, sample_rate=48_000)
    # At 48 kHz a tone of 12 kHz is there; by way of 16 kHz it would be lost.
    spectrum = torch.fft.rfft(high).abs()
    assert abs(int(spectrum.argmax()) / len(high) * 48_000 - 12_000) < 50
    assert abs(len(high) - 3 * len(corpus.read(0))) < 4_800


# --- the real recordings ------------------------------------------------------------
REAL = {
    "ravdess": (1439, 24, {"angry": 192, "happy": 191, "neutral": 96, "sad": 192}),
    "tess": (2798, 2, {"angry": 399, "happy": 400, "neutral": 400, "sad": 399}),
    "emodb": (339, 10, {"angry": 127, "happy": 71, "neutral": 79, "sad": 62}),
    "nemo": (4481, 9, {"angry": 749, "happy": 749, "neutral": 809, "sad": 769}),
    "emotale": (800, 18, {"angry": 160, "bored": 160, "happy": 160, "sad": 160}),
    "emogator": (8100, 90, {"angry": 270, "neutral": 270, "sad": 270, "awe": 270}),
}


@pytest.mark.parametrize("name", REAL)
def test_the_real_recordings_are_all_there(name, real_corpora, monkeypatch):
    if not (real_corpora / name).is_dir():
        pytest.skip(f"{name} is not in {real_corpora}")
    monkeypatch.setenv("CLEPDG_CORPORA", str(real_corpora))
    corpus = load_corpus(name)
    assert corpus.problems["known"].all()
    n_clips, n_speakers, counts = REAL[name]
    assert len(corpus) == n_clips and corpus.clips["clip"].is_unique
    assert corpus.clips["speaker"].nunique() == n_speakers
    found = corpus.clips["emotion"].value_counts()
    assert {emotion: found[emotion] for emotion in counts} == counts
    assert corpus.clips.groupby("speaker")["split"].nunique().max() == 1
    without = {"validation"} if name == "tess" else set()  # of two speakers
    assert set(corpus.clips["split"]) == set(SPLITS) - without
    if name != "emogator":  # its owners do not say
        assert set(corpus.clips["sex"]) <= {"female", "male"}
    if name == "emotale":
        n_languages = corpus.clips.groupby("speaker")["language"].nunique()
        assert (n_languages == 2).sum() == 14
    for index in (0, len(corpus) // 2, len(corpus) - 1):
        assert 0.1 < len(corpus.read(index)) / 16_000 < 20
