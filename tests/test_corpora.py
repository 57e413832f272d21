"""A corpus comes out as its owners meant it, and no speaker is on both sides."""

from __future__ import annotations

import logging
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from clepdg_lib.corpora import (
    COLUMNS,
    CORPORA,
    EMOTIONS,
    HAPPY_BURSTS,
    SPLITS,
    Corpus,
    CorpusError,
    join_corpora,
    list_corpora,
    load_corpus,
    split_speakers,
)
from clepdg_lib.corpus_findings import normalise_emotion

NINE = [name for name in CORPORA if name != "emosynth"]


def rows(corpus, *columns):
    return sorted(corpus.clips[list(columns)].itertuples(index=False, name=None))


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    """No test finds a corpus by accident."""
    monkeypatch.delenv("CLEPDG_CORPORA", raising=False)


@pytest.fixture
def people(make_corpus):
    """A folder of one's own: two emotions, five speakers, two clips each."""
    return make_corpus(
        *(
            f"{emotion}/{speaker}/{take}.wav"
            for emotion in ("Anger", "sad")
            for speaker in ("anna", "bert", "cleo", "dora", "emil")
            for take in (1, 2)
        ),
        folder="people",
    )


# --- the nine layouts ---------------------------------------------------------


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_ravdess_as_its_owners_lay_it_out(make_corpus, suffix):
    root = make_corpus(
        f"Actor_01/03-01-05-02-01-01-01.{suffix}",
        f"Actor_02/03-01-08-01-02-01-02.{suffix}",
        f"Actor_02/03-02-03-01-02-01-02.{suffix}",  # a song
    )
    corpus = load_corpus("ravdess", root=root, strict=True)
    assert rows(corpus, "clip", "emotion", "speaker", "sex", "text", "intensity") == [
        (
            "Actor_01/03-01-05-02-01-01-01",
            "angry",
            "ravdess-01",
            "male",
            "Kids are talking by the door",
            "strong",
        ),
        (
            "Actor_02/03-01-08-01-02-01-02",
            "surprised",
            "ravdess-02",
            "female",
            "Dogs are sitting by the door",
            "normal",
        ),
    ]
    assert set(corpus.clips["language"]) == {"English"}
    assert set(corpus.clips["domain"]) == {"ravdess"}
    assert corpus.licence == "CC BY-NC-SA 4.0"


def test_ravdess_drops_the_recording_that_is_there_twice(make_corpus, caplog):
    root = make_corpus(
        "Actor_07/03-01-03-01-02-01-07.wav", "Actor_07/03-01-03-01-02-02-07.wav"
    )
    corpus = load_corpus("ravdess", root=root, strict=True)
    assert list(corpus.clips["clip"]) == ["Actor_07/03-01-03-01-02-01-07"]
    assert list(corpus.problems["known"]) == [True]
    assert not caplog.records  # documented by its owners: no reason to be alarmed


def test_tess_as_its_owners_lay_it_out(make_corpus):
    root = make_corpus(
        "OAF_angry/OAF_back_angry.wav",
        "OAF_Pleasant_surprise/OAF_back_ps.wav",
        "YAF_fear/YAF_young_fear.wav",
        "OAF_neutral/OA_bite_neutral.wav",
    )
    corpus = load_corpus("tess", root=root, strict=True)
    assert rows(corpus, "emotion", "speaker", "sex", "text") == [
        ("angry", "tess-OAF", "female", "back"),
        ("fearful", "tess-YAF", "female", "young"),
        ("neutral", "tess-OAF", "female", "bite"),
        ("surprised", "tess-OAF", "female", "back"),
    ]
    # Two speakers: one to learn from, one to be tested on.
    assert set(corpus.clips["split"]) == {"train", "test"}


def test_emodb_as_its_owners_lay_it_out(make_corpus):
    letters = "WLEAFTN"
    root = make_corpus(*(f"wav/03a01{letter}a.wav" for letter in letters))
    (root / "erkennung.txt").write_text("not audio")
    corpus = load_corpus("emodb", root=root, strict=True)
    found = dict(
        zip(corpus.clips["clip"].str[-2], corpus.clips["emotion"], strict=True)
    )
    assert found == {
        "W": "angry",
        "L": "bored",
        "E": "disgusted",
        "A": "fearful",
        "F": "happy",
        "T": "sad",
        "N": "neutral",
    }
    assert rows(corpus, "speaker", "sex", "language", "text")[0] == (
        "emodb-03",
        "male",
        "German",
        "Der Lappen liegt auf dem Eisschrank.",
    )


def test_nemo_as_its_owners_lay_it_out(make_corpus):
    root = make_corpus(
        "samples/EB0_fear_74.opus.wav", "samples/EB0_fear_74.wav", "samples/KS0_x.wav"
    )
    (root / "data.tsv").write_text(
        "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
        "EB0_fear_74.wav\tfear\tŻycie.\tżycie\t        EB0\tfemale\t27\n"
        "EB0_anger_75.wav\tanger\tBaza.\tbaza\tEB0\tfemale\t27\n",
        encoding="utf-8",
    )
    corpus = load_corpus("nemo", root=root)
    assert rows(corpus, "emotion", "speaker", "sex", "language", "text") == [
        ("fearful", "nemo-EB0", "female", "Polish", "Życie.")
    ]
    told = " ".join(corpus.problems["problem"])
    assert len(corpus.problems) == 3
    assert "not in samples/" in told and "not listed in data.tsv" in told


def test_cremad_as_its_owners_lay_it_out(make_corpus):
    root = make_corpus(
        "AudioWAV/1001_DFA_ANG_XX.wav",
        "AudioWAV/1002_IEO_HAP_HI.wav",
        "AudioWAV/1040_ITH_SAD_X.wav",
        "AudioMP3/1001_DFA_ANG_XX.mp3",  # the same clip again
    )
    (root / "VideoDemographics.csv").write_text(
        "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not Hispanic\n"
        "1002,21,Female,Caucasian,Not Hispanic\n"
    )
    corpus = load_corpus("cremad", root=root, strict=True)
    assert rows(corpus, "emotion", "speaker", "sex", "text", "intensity") == [
        ("angry", "cremad-1001", "male", "Don't forget a jacket", ""),
        ("happy", "cremad-1002", "female", "It's eleven o'clock", "high"),
        ("sad", "cremad-1040", "", "I think I have a doctor's appointment", ""),
    ]


@pytest.mark.parametrize("form", ["AudioData/{}/{}.wav", "ALL/{}_{}.wav"])
def test_savee_as_its_owners_lay_it_out(make_corpus, form):
    wanted = {
        "a": "angry",
        "d": "disgusted",
        "f": "fearful",
        "h": "happy",
        "n": "neutral",
        "sa": "sad",
        "su": "surprised",
    }
    speakers = ("DC", "JE", "JK", "KL")
    root = make_corpus(
        *(form.format(s, f"{code}01") for s in speakers for code in wanted)
    )
    corpus = load_corpus("savee", root=root, strict=True)
    assert sorted(corpus.emotions) == sorted(wanted.values())
    assert len(corpus) == 28 and set(corpus.clips["sex"]) == {"male"}
    assert set(corpus.clips["speaker"]) == {f"savee-{s}" for s in speakers}


@pytest.fixture
def iemocap(make_corpus):
    names = ("Ses01F_impro01_F000", "Ses01F_impro01_M000", "Ses01F_impro01_F001")
    root = make_corpus(
        *(f"Session1/sentences/wav/Ses01F_impro01/{name}.wav" for name in names),
        "Session1/dialog/wav/Ses01F_impro01.wav",  # whole dialogues are no clips
        folder="IEMOCAP_full_release",
    )
    labels = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text(
        "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\n"
        "C-E2:\tNeutral;\t()\n"
        "[7.57 - 10.47]\tSes01F_impro01_M000\texc\t[2.5000, 2.5000, 2.5000]\n"
        "[11.0 - 12.0]\tSes01F_impro01_F001\txxx\t[2.5000, 2.5000, 2.5000]\n"
    )
    words = root / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    words.parent.mkdir(parents=True)
    words.write_text("Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\n")
    return root


@pytest.mark.parametrize("above", [False, True])
def test_iemocap_as_its_owners_lay_it_out(iemocap, above):
    root = iemocap.parent if above else iemocap
    corpus = load_corpus("iemocap", root=root, strict=True)
    assert rows(corpus, "emotion", "speaker", "sex", "text") == [
        ("excited", "iemocap-Ses01M", "male", ""),
        ("neutral", "iemocap-Ses01F", "female", "Excuse me."),
        ("undecided", "iemocap-Ses01F", "female", ""),
    ]
    four = load_corpus(
        "iemocap", root=root, emotion_map={"excited": "happy"}, emotions=EMOTIONS
    )
    assert four.emotions == ("happy", "neutral")


def test_iemocap_without_its_labels_is_called_the_wrong_release(iemocap):
    shutil.rmtree(iemocap / "Session1/dialog")
    with pytest.raises(CorpusError, match="EmoEvaluation.*full release"):
        load_corpus("iemocap", root=iemocap)


def test_iemocap_reports_lines_and_recordings_that_have_no_partner(iemocap):
    labels = iemocap / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    labels.write_text(
        "[6.2 - 8.2]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n"
        "[7.5 - 9.2]\tSes01F_impro01_M000\tmad\t[2.5, 2.5, 2.5]\n"
        "[9.5 - 9.9]\tSes01F_impro01_M009\tsad\t[2.5, 2.5, 2.5]\n"
    )
    corpus = load_corpus("iemocap", root=iemocap)
    assert len(corpus) == 1
    told = "\n".join(corpus.problems["problem"])
    assert "no known label" in told and "no recording Ses01F_impro01_M009" in told
    assert told.count("has no line in EmoEvaluation") == 2


def meld_table(*turns):
    head = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season"
    return "\n".join([head, *(f"{i},{turn},8" for i, turn in enumerate(turns))])


def test_meld_as_its_owners_lay_it_out(make_corpus):
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
    dev, test = "What?,Joey,surprise,negative,0,0", "Oh.,Ross,sadness,negative,0,0"
    (root / "dev_sent_emo.csv").write_text(meld_table(dev))
    (root / "test_sent_emo.csv").write_text(meld_table(test))
    corpus = load_corpus("meld", root=root, strict=True)
    assert rows(corpus, "clip", "emotion", "speaker", "text", "owners_split") == [
        ("dev_splits_complete/dia0_utt0", "surprised", "meld-Joey", "What?", "dev"),
        (
            "output_repeated_splits_test/final_videos_testdia0_utt0",
            *("sad", "meld-Ross", "Oh.", "test"),
        ),
        ("train/train_splits/dia0_utt0", "happy", "meld-Joey", "Hi, all", "train"),
        ("train/train_splits/dia0_utt1", "angry", "meld-Monica", "No.", "train"),
    ]
    # Joey is in two of the owners' parts, and yet in one split here.
    assert corpus.clips.groupby("speaker")["split"].nunique().max() == 1


def test_meld_with_video_only_says_how_to_take_the_sound_out(tmp_path):
    (tmp_path / "train_splits").mkdir()
    (tmp_path / "train_splits/dia0_utt0.mp4").write_bytes(b"video")
    table = meld_table("Hi,Joey,joy,positive,0,0")
    (tmp_path / "train_sent_emo.csv").write_text(table)
    with pytest.raises(CorpusError, match="ffmpeg"):
        load_corpus("meld", root=tmp_path)


def test_emogator_keeps_thirty_categories_unless_told_otherwise(make_corpus):
    root = make_corpus(*(f"data/mp3/000001-{c:02d}-1.wav" for c in range(1, 31)))
    corpus = load_corpus("emogator", root=root, strict=True)
    assert len(corpus.emotions) == 30
    number = dict(
        zip(corpus.clips["clip"].str[-4:-2], corpus.clips["emotion"], strict=True)
    )
    assert number["03"] == "angry" and number["18"] == "neutral"
    assert number["24"] == "sad" and number["23"] == "romantic love"
    assert number["02"] == "amusement" and "happy" not in corpus.emotions
    four = load_corpus(
        "emogator", root=root, emotion_map=HAPPY_BURSTS, emotions=EMOTIONS
    )
    assert four.emotions == EMOTIONS
    assert sorted(four.clips.query("emotion == 'happy'")["clip"].str[-4:-2]) == [
        *("02", "12", "13", "30")
    ]


# --- a corpus of one's own ------------------------------------------------------


def test_a_folder_of_ones_own_has_emotions_and_speakers_for_folders(people):
    corpus = load_corpus(people)
    assert corpus.emotions == ("angry", "sad")
    assert len(corpus) == 20 and corpus.name == "people"
    assert set(corpus.clips["domain"]) == {"people"}
    assert set(corpus.clips["speaker"]) == {"anna", "bert", "cleo", "dora", "emil"}
    assert set(corpus.clips["split"]) == set(SPLITS)
    assert list(corpus.clips.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert all(os.path.isabs(path) for path in corpus.clips["path"])


def test_clips_without_a_speaker_stay_in_one_split(make_corpus):
    root = make_corpus("happy/a.wav", "happy/b.wav", "sad/a.wav", "loose.wav")
    corpus = load_corpus(str(root))
    assert set(corpus.clips["split"]) == {"train"}
    assert list(corpus.problems["problem"]) == ["lies outside an emotion's folder"]


def test_a_misspelt_emotion_is_reported_and_a_new_one_taken(make_corpus):
    root = make_corpus("angyr/a.wav", "Unhappy/b.wav", "sarcastic/c.wav")
    corpus = load_corpus(root)
    assert corpus.emotions == ("sarcastic", "unhappy")
    assert "'angry' was meant?" in corpus.problems["problem"].item()


def test_a_csv_of_ones_own_keeps_what_it_says(make_corpus):
    root = make_corpus("a/1.wav", "a/2.wav", "a/3.wav")
    (root / "clips.csv").write_text(
        "\ufeffpath,emotion,speaker,domain,split,seconds\n"
        "a/1.wav,Happiness,01,kitchen,train,0.25\n"
        "a/2.wav,sad,02,street,test,0.25\n"
        "a/9.wav,sad,02,street,test,0.25\n",
        encoding="utf-8",
    )
    for given in (root, root / "clips.csv"):
        corpus = load_corpus(given)
        assert rows(corpus, "clip", "emotion", "speaker", "domain", "split") == [
            ("a/1", "happy", "01", "kitchen", "train"),
            ("a/2", "sad", "02", "street", "test"),
        ]
        assert corpus.clips["seconds"].tolist() == [0.25, 0.25]
        unlisted, missing = sorted(corpus.problems["problem"], reverse=True)
        assert unlisted == "not listed in clips.csv"
        assert missing.startswith("line 4")
        assert corpus.name == "corpus"


def test_a_csv_may_hold_odd_names_and_columns(make_corpus):
    root = make_corpus("a/1.wav", "a/2.wav")
    (root / "list.csv").write_text(
        "path,emotion,self,intensity\n"
        f"a/1.wav,sad,x,1\n,sad,x,1\n{'n' * 300}.wav,sad,x,1\na/2.wav,,x,1\n"
    )
    corpus = load_corpus(root / "list.csv")
    assert list(corpus.clips["clip"]) == ["a/1"] and corpus.name == "list"
    assert corpus.clips["self"].item() == "x"
    assert [p.split(": ")[1] for p in corpus.problems["problem"]] == [
        *("no such file", "no such file", "no emotion is given")
    ]
    with pytest.raises(CorpusError, match="unknown corpus"):
        load_corpus("n" * 300)


def test_emosynth_is_read_from_its_table(make_corpus, monkeypatch):
    root = make_corpus("audio/x.ogg", "audio/y.ogg", folder="emosynth")
    (root / "clips.csv").write_text(
        "path,clip,emotion,intensity,speaker,sex,engine,domain,split,text,seconds\n"
        "audio/x.ogg,x,angry,2,v1,female,flite,street,train,Hello.,2.5\n"
        "audio/y.ogg,y,sad,1,v2,male,espeak,hall,test,Hello.,1.5\n"
    )
    monkeypatch.setenv("CLEPDG_DATA", str(root.parent))
    corpus = load_corpus("emosynth", strict=True)
    assert rows(corpus, "clip", "domain", "split", "speaker", "language", "engine") == [
        ("x", "street", "train", "v1", "English", "flite"),
        ("y", "hall", "test", "v2", "English", "espeak"),
    ]
    assert corpus.clips["intensity"].tolist() == [2, 1]


# --- what goes wrong --------------------------------------------------------------


def test_an_unknown_corpus_lists_the_known_ones():
    with pytest.raises(CorpusError, match="'ravdes'.*no folder.*ravdess.*emogator"):
        load_corpus("ravdes")


@pytest.mark.parametrize("name", NINE)
def test_a_corpus_that_is_not_here_says_where_it_was_looked_for(
    name, tmp_path, monkeypatch
):
    monkeypatch.setenv("CLEPDG_CORPORA", str(tmp_path))
    with pytest.raises(CorpusError) as error:
        load_corpus(name)
    for told in (name, str(tmp_path), "CLEPDG_CORPORA", CORPORA[name].page):
        assert told in str(error.value)


@pytest.mark.parametrize("name", NINE)
def test_an_empty_folder_is_an_error(name, tmp_path):
    with pytest.raises(CorpusError):
        load_corpus(name, root=tmp_path)


def test_an_empty_folder_of_ones_own_names_the_suffixes(tmp_path):
    with pytest.raises(CorpusError, match=r"no usable clip.*\.wav"):
        load_corpus(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot be read"),
        (b"path,emotion\n\xff\xfe\x00,sad\n", "cannot be read"),
        (b"path,feeling\na.wav,sad\n", "lacks the columns"),
        (b'path,emotion\n"a.wav,sad\n', "cannot be read"),
        (b"path,emotion\na.wav,sad,7\n", "more cells than its header names"),
    ],
)
def test_metadata_that_cannot_be_read_is_named(tmp_path, content, told):
    (tmp_path / "clips.csv").write_bytes(content)
    with pytest.raises(CorpusError, match=told) as error:
        load_corpus(tmp_path)
    assert "clips.csv" in str(error.value)


def test_files_that_make_no_sense_are_counted_or_stop_it(make_corpus, caplog):
    root = make_corpus(
        "wav/03a01Fa.wav", "wav/03a01Xa.wav", "wav/holiday.wav", ".hidden/03a01Wa.wav"
    )
    with caplog.at_level(logging.WARNING):
        corpus = load_corpus("emodb", root=root)
    assert len(corpus) == 1 and len(corpus.problems) == 2
    assert set(corpus.problems) >= {"path", "problem"}
    assert len(caplog.records) == 1 and "2 files left out" in caplog.text
    with pytest.raises(CorpusError, match="2 files.*strict=False"):
        load_corpus("emodb", root=root, strict=True)


def test_the_same_bytes_twice_are_one_clip(make_corpus):
    root = make_corpus("sad/a.wav", "sad/b.wav")
    shutil.copy(root / "sad/a.wav", root / "sad/c.wav")
    corpus = load_corpus(root)
    assert list(corpus.clips["clip"]) == ["sad/a", "sad/b"]
    assert corpus.problems["problem"].item() == "same bytes as sad/a"


@pytest.mark.parametrize("copy", ["angry/anna/c.wav", "sad/bert/c.wav"])
def test_the_same_bytes_under_two_labels_or_speakers_are_none(make_corpus, copy):
    root = make_corpus("sad/anna/a.wav", "sad/anna/b.wav", "angry/bert/d.wav")
    (root / copy).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / "sad/anna/a.wav", root / copy)
    corpus = load_corpus(root)
    assert sorted(corpus.clips["clip"]) == ["angry/bert/d", "sad/anna/b"]
    assert len(corpus.problems) == 2


def test_two_suffixes_of_one_clip_count_once(make_corpus):
    corpus = load_corpus(make_corpus("sad/a.wav", "sad/a.flac"))
    assert len(corpus) == 1 and "second file" in corpus.problems["problem"].item()


def test_one_clip_listed_with_two_labels_is_none(make_corpus):
    root = make_corpus("a.wav", "b.wav")
    (root / "clips.csv").write_text("path,emotion\na.wav,sad\nb.wav,sad\na.wav,angry\n")
    corpus = load_corpus(root)
    assert list(corpus.clips["clip"]) == ["b"]
    assert "two labels" in " ".join(corpus.problems["problem"])


def test_two_layouts_in_one_folder_are_reported(make_corpus):
    root = make_corpus("sad/a.wav", "loose.wav", "sda/c.wav")
    corpus = load_corpus(root)
    assert list(corpus.clips["clip"]) == ["sad/a"]
    told = dict(corpus.problems[["path", "problem"]].to_numpy())
    assert "outside an emotion's folder" in told[str(root / "loose.wav")]
    (root / "clips.csv").write_text("path,emotion\nloose.wav,sad\n")
    corpus = load_corpus(root)
    assert list(corpus.clips["clip"]) == ["loose"]
    assert set(corpus.problems["problem"]) == {"not listed in clips.csv"}
    assert corpus.problems["known"].all()


def test_a_report_counts_by_reason(make_corpus):
    root = make_corpus("a.wav")
    lines = ["path,emotion", "a.wav,sad", "b.wav,sad", "c.wav,sad", "a.wav,sda"]
    (root / "clips.csv").write_text("\n".join(lines) + "\n")
    corpus = load_corpus(root)
    report = corpus.report()
    assert list(report["files"]) == [2, 1] and report["files"].sum() == 3
    assert report["problem"][0] == "line # of clips.csv: no such file"
    assert report["first"][0] == str(root / "b.wav")
    assert len(load_corpus(make_corpus("sad/a.wav", folder="fine")).report()) == 0


def test_names_from_anywhere_are_read(make_corpus):
    root = make_corpus("sad/ünï 🎤\nx.wav", "sad/" + "n" * 250 + ".WAV")
    corpus = load_corpus(root)
    assert len(corpus) == 2
    assert all(len(corpus.read(i)) for i in range(2))


# --- finding ---------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["EMODB", "Emo-DB"])
def test_folders_are_found_whatever_their_case(make_corpus, monkeypatch, folder):
    root = make_corpus("wav/03a01Fa.wav", folder=folder)
    monkeypatch.setenv("CLEPDG_CORPORA", str(root.parent))
    assert load_corpus("EmoDB").name == "emodb"
    assert len(load_corpus("emodb", root=root)) == 1
    assert len(load_corpus("emodb", root=root.parent)) == 1


def test_nine_published_corpora_have_readers():
    assert sorted(NINE) == sorted(
        [
            *("ravdess", "tess", "emodb", "nemo", "cremad"),
            *("savee", "iemocap", "meld", "emogator"),
        ]
    )


def test_the_list_says_what_is_here(make_corpus, monkeypatch, tmp_path):
    make_corpus("wav/03a01Fa.wav", "wav/03a01Wa.wav", folder="emodb")
    monkeypatch.setenv("CLEPDG_CORPORA", str(tmp_path))
    table = list_corpora().set_index("name")
    assert set(table.index) == {"emosynth", *NINE}
    assert {"title", "language", "licence", "found", "clips"} <= set(table)
    assert table.loc["emodb", "found"] and table.loc["emodb", "clips"] == 2
    assert not table.loc["ravdess", "found"]


# --- the table ---------------------------------------------------------------------


def test_select_narrows_and_names_what_it_does_not_have(people):
    corpus = load_corpus(people)
    assert corpus.select(emotions="sad").emotions == ("sad",)
    assert len(corpus.select(speakers=["anna", "bert"])) == 8
    assert len(corpus.select(splits="test", emotions=EMOTIONS)) < len(corpus)
    assert len(corpus.select(exclude_domains="people")) == 0
    assert len(corpus.select(corpora="people")) == 20
    with pytest.raises(CorpusError, match="no emotion.*'sadd'.*angry, sad"):
        corpus.select(emotions=["sadd"])
    with pytest.raises(CorpusError, match="no domain.*'moon'.*people"):
        corpus.select(exclude_domains="moon")
    with pytest.raises(CorpusError, match="no split.*'dev'"):
        corpus.select(splits="dev")


def test_a_corpus_never_shares_its_rows_with_a_selection(people):
    corpus = load_corpus(people)
    part = corpus.select(emotions="sad")
    part.clips["emotion"] = "changed"
    assert corpus.emotions == ("angry", "sad")
    assert list(part.clips.index) == list(range(len(part)))


def test_no_speaker_can_be_in_two_splits(people):
    corpus = load_corpus(people)
    leaky = corpus.clips.assign(split=["train", "test"] * 10)
    with pytest.raises(CorpusError, match="more than one split"):
        Corpus("leaky", leaky)
    with pytest.raises(CorpusError, match="lacks the columns"):
        Corpus("bare", leaky.drop(columns="speaker"))
    (people / "clips.csv").write_text(
        "path,emotion,speaker,split\n"
        "sad/anna/1.wav,sad,anna,train\nsad/anna/2.wav,sad,anna,test\n"
    )
    with pytest.raises(CorpusError, match="anna"):
        load_corpus(people)


def test_no_split_leaves_a_table_that_was_written_into(people):
    corpus = load_corpus(people)
    row = corpus.clips.index[corpus.clips["split"] == "train"][0]
    corpus.clips.loc[row, "split"] = "test"
    if corpus.clips.groupby("speaker")["split"].nunique().max() > 1:
        with pytest.raises(CorpusError, match="more than one split"):
            corpus.select(splits="test")
    else:
        pytest.fail("the speaker of that row has only one clip: nothing was tested")


def test_a_recording_in_two_splits_is_on_one_side_only(make_corpus, caplog):
    one = make_corpus("sad/anna/a.wav", "sad/anna/b.wav", folder="one")
    two = make_corpus("sad/bert/c.wav", "angry/carl/d.wav", folder="two")
    shutil.copy(one / "sad/anna/a.wav", two / "sad/bert/copy.wav")
    shutil.copy(one / "sad/anna/b.wav", two / "angry/carl/other.wav")
    parts = load_corpus(one), load_corpus(two)
    sides = [
        corpus.clips.assign(split=s) for corpus, s in zip(parts, SPLITS, strict=False)
    ]
    parts = [Corpus(name, clips) for name, clips in zip(("1", "2"), sides, strict=True)]
    with pytest.raises(CorpusError, match="3 files are also, byte for byte.*'drop'"):
        join_corpora(*parts)
    with pytest.raises(CorpusError, match="'raise' or 'drop'"):
        join_corpora(*parts, doubles="keep")
    with caplog.at_level(logging.WARNING):
        both = join_corpora(*parts, doubles="drop")
    assert sorted(both.clips["clip"]) == ["angry/carl/d", "sad/anna/a", "sad/bert/c"]
    assert "3 files left out" in caplog.text
    assert both.report()["files"].sum() == 3
    copies = both.problems["path"].str.contains("copy.wav")
    assert (
        f"same bytes as {one / 'sad/anna/a.wav'}" in both.problems[copies].to_string()
    )


def test_joined_corpora_keep_their_speakers_apart(make_corpus):
    one = load_corpus("emodb", root=make_corpus("wav/03a01Fa.wav", folder="one"))
    two = load_corpus(
        "ravdess", root=make_corpus("Actor_03/03-01-05-02-01-01-03.wav", folder="two")
    )
    both = join_corpora(one, two)
    assert len(both) == 2 and both.clips["speaker"].nunique() == 2
    assert both.name == "emodb+ravdess" and "free for research" in both.licence
    assert both.clips["intensity"].tolist() == ["", "strong"]
    assert len(both.select(corpora="emodb")) == 1
    with pytest.raises(CorpusError, match="more than once"):
        join_corpora(one, one)
    with pytest.raises(CorpusError, match="at least one"):
        join_corpora()
    other = Corpus("again", two.clips.assign(corpus="again", split="test"))
    with pytest.raises(CorpusError, match="more than one split"):
        join_corpora(two, other)


@pytest.mark.parametrize("n_speakers", [1, 2, 3, 4, 9, 24])
@pytest.mark.parametrize("seed", [0, 1])
def test_splits_are_by_speaker_and_repeatable(n_speakers, seed):
    generator = np.random.default_rng(n_speakers)
    clips = pd.DataFrame(
        {"speaker": generator.integers(0, n_speakers, 400).astype(str)}
    )
    clips["sex"] = ["female" if int(s) % 2 else "male" for s in clips["speaker"]]
    split = split_speakers(clips, seed=seed)
    assert split.groupby("speaker")["split"].nunique().max() == 1
    again = split_speakers(clips.sample(frac=1, random_state=1), seed=seed)
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


def test_one_talkative_speaker_leaves_no_split_empty():
    speakers = ["lead"] * 90 + ["b"] * 4 + ["c"] * 3 + ["d"] * 3
    for seed in range(8):
        split = split_speakers(pd.DataFrame({"speaker": speakers}), seed=seed)
        assert set(split["split"]) == set(SPLITS)


def test_fractions_are_honoured_or_refused():
    clips = pd.DataFrame({"speaker": list("abcdefghij")})
    split = split_speakers(clips, fractions=(0.5, 0, 0.5))
    assert split["split"].value_counts().to_dict() == {"train": 5, "test": 5}
    for wrong in ((0.5, 0.5, 0.5), (1.2, -0.2, 0.0), (0.5, 0.5)):
        with pytest.raises(CorpusError, match="add up to 1"):
            split_speakers(clips, fractions=wrong)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("Pleasant_Surprise", "surprised"),
        ("ANGER", "angry"),
        ("romantic-love", "romantic love"),
        (" Calm ", "calm"),
    ],
)
def test_emotions_have_one_spelling(given, wanted):
    assert normalise_emotion(given) == wanted


# --- reading -----------------------------------------------------------------------


def test_bad_files_are_skipped_and_counted(make_corpus, caplog):
    root = make_corpus("sad/a.wav", "sad/b.wav", "sad/c.wav")
    (root / "sad/b.wav").write_bytes(b"not a sound")
    (root / "sad/d.wav").write_bytes(b"")
    corpus = load_corpus(root)
    problems = []
    with caplog.at_level(logging.WARNING):
        waves = dict(corpus.iter_waves(problems=problems))
    assert list(waves) == [0, 2]
    assert [os.path.basename(bad["path"]) for bad in problems] == ["b.wav", "d.wav"]
    assert len(caplog.records) == 1 and "2 files could not be read" in caplog.text
    assert all(
        wave.dtype == torch.float32 and wave.ndim == 1 for wave in waves.values()
    )


def test_clips_are_read_at_one_level(make_corpus):
    corpus = load_corpus(make_corpus("sad/a.wav"))
    loudness = 10 * torch.log10(corpus.read(0).square().mean())
    assert abs(loudness.item() + 26) < 0.1


# --- the real recordings -------------------------------------------------------------

REAL = {
    "ravdess": (1439, 24, {"angry": 192, "happy": 191, "neutral": 96, "sad": 192}),
    "tess": (2798, 2, {"angry": 399, "happy": 400, "neutral": 400, "sad": 399}),
    "emodb": (339, 10, {"angry": 127, "happy": 71, "neutral": 79, "sad": 62}),
    "nemo": (4481, 9, {"angry": 749, "happy": 749, "neutral": 809, "sad": 769}),
    "emogator": (8100, 90, {"angry": 270, "neutral": 270, "sad": 270, "awe": 270}),
}


@pytest.mark.parametrize("name", REAL)
def test_the_real_recordings_are_all_there(name, real_corpora, monkeypatch):
    monkeypatch.setenv("CLEPDG_CORPORA", str(real_corpora))
    try:
        corpus = load_corpus(name, strict=True)
    except CorpusError as error:
        if "was not found" in str(error):
            pytest.skip(f"{name} is not in {real_corpora}")
        raise
    n_clips, n_speakers, counts = REAL[name]
    assert len(corpus) == n_clips and corpus.clips["clip"].is_unique
    assert corpus.clips["speaker"].nunique() == n_speakers
    found = corpus.clips["emotion"].value_counts()
    assert {emotion: found[emotion] for emotion in counts} == counts
    assert corpus.clips.groupby("speaker")["split"].nunique().max() == 1
    assert set(corpus.clips["split"]) == set(SPLITS) - (
        {"validation"} if name == "tess" else set()
    )
    if name != "emogator":  # its owners do not say
        assert set(corpus.clips["sex"]) <= {"female", "male"}
    for index in (0, len(corpus) // 2, len(corpus) - 1):
        assert 0.1 < len(corpus.read(index)) / 16_000 < 20
