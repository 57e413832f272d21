"""One model, three verbs; on disk it is whole, or refused by the name of the file."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from stand_ins import DIM, laion_parts, odd_torch, tiny_clap

from clepdg_lib import clap as clap_module
from clepdg_lib.audio import AudioError
from clepdg_lib.clap import REVISIONS, load_clap
from clepdg_lib.corpora import load_corpus
from clepdg_lib.files import (
    CHECKSUMS,
    PROJECT,
    data_root,
    verify_checksums,
    write_checksums,
)

RATE = 16_000
SENTENCES = ["this person is feeling sad", "happy", "rain in the background"]


def noise(seconds, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(round(seconds * RATE), generator=generator)


def unit(rows):
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))
    return rows


@pytest.fixture(scope="module")
def tiny():
    """A Whisper tower and random weights; no test may change it."""
    return tiny_clap("whisper")


@pytest.fixture
def folder(tiny, tmp_path):
    return tiny.save(tmp_path / "model")


@pytest.fixture(scope="module")
def laion_folder(tmp_path_factory):
    """A tiny CLAP as transformers writes it."""
    folder = tmp_path_factory.mktemp("hub") / "laion"
    for part in laion_parts(RATE):
        part.save_pretrained(folder)
    return folder


# ------------------------------------------------------------------- sound
def test_clips_become_unit_rows_whatever_stands_beside_them(tiny):
    clips = [noise(0.4, seed=1), noise(4, seed=2), noise(1, seed=3)]
    together = unit(tiny.embed_audio(clips))
    assert together.dtype == torch.float32 and together.shape == (3, DIM)
    in_parts = tiny.embed_audio(clips, batch_size=1)
    torch.testing.assert_close(together, in_parts, atol=1e-4, rtol=0)
    alone = tiny.embed_audio(clips[2])
    torch.testing.assert_close(together[2:], alone, atol=1e-4, rtol=0)
    features = tiny.audio_features(clips)
    assert features.shape == (3, tiny.width)
    torch.testing.assert_close(tiny.project(features), together)


def test_a_path_an_array_and_a_tensor_are_one_clip(tiny, tmp_path):
    wave = noise(1)
    path = tmp_path / "clip.wav"
    soundfile.write(path, wave.numpy(), RATE, subtype="FLOAT")
    found = tiny.embed_audio([path, str(path), wave, wave.numpy()])
    assert float((found - found[0]).abs().max()) < 1e-5
    assert tiny.embed_audio(str(path)).shape == (1, DIM)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([], "there are no clips"),
        ([torch.full((RATE,), torch.nan)], "NaN"),
        ([torch.zeros(2, RATE)], "clip 0"),
        ([noise(1), torch.zeros(0)], "clip 1"),
        ([noise(1), torch.zeros(RATE)], "clip 1 is silent"),
        (["nowhere.wav"], "nowhere.wav"),
    ],
)
def test_what_is_no_clip_is_refused_by_name(tiny, clips, message):
    with pytest.raises(AudioError, match=message):
        tiny.embed_audio(clips)


def test_sizes_of_batches_are_checked(tiny):
    for size in (0, -4, 2.5, float("nan"), "2"):
        for embed, given in ((tiny.embed_audio, [noise(1)]), (tiny.embed_text, "sad")):
            with pytest.raises(ValueError, match=f"batch_size is {size!r}; .*whole"):
                embed(given, batch_size=size)
    with pytest.raises(AudioError, match="sample_rate"):
        tiny.embed_audio([noise(1)], sample_rate="16k")


def test_streaming_keeps_order_and_reads_only_a_little_ahead(tiny):
    begun, bad = [], {}

    def read(i):
        begun.append(i)
        if i % 10 == 7:
            raise AudioError(f"clip {i} is bad")
        return noise(0.1, seed=i)

    stream = tiny.stream_features(read, range(300), problems=bad)
    rows = [next(stream)]
    assert len(begun) <= clap_module.AT_ONCE + len(bad) + clap_module.READ_AHEAD + 1
    with pytest.warns(UserWarning, match="30 clips left out; the first: clip 7 is bad"):
        rows += stream
    assert [i for i, _ in rows] == [i for i in range(300) if i % 10 != 7]
    assert {i: str(bad[i]) for i in bad} == {
        i: f"clip {i} is bad" for i in range(7, 300, 10)
    }
    expected = tiny.audio_tower.features([read(299)])
    torch.testing.assert_close(rows[-1][1][None], expected, atol=1e-4, rtol=0)
    with pytest.raises(ZeroDivisionError):  # only audio errors are collected
        list(tiny.stream_features(lambda i: 1 / i, range(2), problems={}))


def test_long_clips_are_not_gathered_in_memory(tiny, monkeypatch):
    monkeypatch.setattr(clap_module, "MAX_SAMPLES", 2 * RATE)
    sizes, encode = [], tiny.audio_tower.features

    def features(waves, **options):
        sizes.append(len(waves))
        return encode(waves, **options)

    monkeypatch.setattr(tiny.audio_tower, "features", features)
    list(tiny.stream_features(lambda i: noise(0.9), range(7)))
    assert sizes == [3, 3, 1]


def test_waves_of_other_kinds_are_the_same_clips(tiny):
    waves = [noise(0.3, seed=i).bfloat16().float() for i in range(9)]
    expected = tiny.embed_audio(waves, batch_size=8)
    how = {"batch_size": np.int64(8), "sample_rate": np.int64(RATE)}
    for kind in (
        [wave.bfloat16() for wave in waves],
        (wave.clone().requires_grad_() for wave in waves),
        pd.Series([wave[:, None].numpy() for wave in waves]),
    ):
        assert torch.equal(tiny.embed_audio(kind, **how), expected)


def test_embeddings_do_not_depend_on_what_torch_is_set_to(folder):
    def work():
        clap = load_clap(folder)
        return clap.embed_audio([wave]), clap.embed_text(SENTENCES)

    wave = noise(1)
    expected = work()
    with odd_torch():
        found = work()
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    with torch.autocast("cpu"):
        assert {rows.dtype for rows in work()} == {torch.float32}


# -------------------------------------------------------------------- text


def test_token_vectors_give_what_their_sentence_gives(tiny):
    vectors, mask = tiny.token_embeddings(SENTENCES)
    assert vectors.shape == (3, mask.shape[1], 32)
    assert mask.sum(dim=1).tolist() == [7, 3, 6]
    assert torch.equal(tiny.embed_tokens(vectors, mask), tiny.embed_text(SENTENCES))
    vectors.requires_grad_(True)
    (grad,) = torch.autograd.grad(tiny.embed_tokens(vectors, mask)[0, 0], [vectors])
    assert grad[0].abs().sum() > 0
    assert grad[1:].abs().sum() == 0  # sentences do not see each other
    for texts in ([], ["fine", ""], ["fine", "  "], ["fine", None]):
        with pytest.raises(ValueError, match="pass one or more sentences"):
            tiny.embed_text(texts)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((2, 5), r"\(2, 5\)"), ((2, 5, 31), "32"), ((1, 63, 32), "62 tokens.*fewer")],
)
def test_token_vectors_of_a_wrong_shape_are_refused(tiny, shape, message):
    with pytest.raises(ValueError, match=message):
        tiny.embed_tokens(torch.zeros(shape), torch.ones(shape[:2]))


# ------------------------------------------------------------- save and load
@pytest.mark.parametrize("kind", ["whisper", "htsat"])
def test_a_saved_model_comes_back(kind, tmp_path):
    clap = tiny_clap(kind, sample_rate=RATE)
    loaded = load_clap(clap.save(tmp_path / "copy"))
    assert loaded.name == "copy" and loaded.dim == DIM
    assert repr(loaded).startswith("Clap('copy', dim=16, 0.")
    assert not any(
        p.requires_grad or p.dtype != torch.float32 for p in loaded.parameters()
    )
    assert loaded.logit_scale == clap.logit_scale
    clips = [noise(1), noise(2, seed=1)]
    for a, b in (
        (loaded.embed_text(SENTENCES), clap.embed_text(SENTENCES)),
        (loaded.embed_audio(clips), clap.embed_audio(clips)),
    ):
        assert (a * b).sum(dim=1).min() > 0.999  # towers are stored in 16 bits
    again = load_clap(loaded.save(tmp_path / "again"))
    assert again.fingerprint() == loaded.fingerprint()
    assert torch.equal(again.embed_audio(clips), loaded.embed_audio(clips))
    names = {"config.json", "tokenizer_config.json", "tokenizer.json"}
    for name in names | {"audio_tower.safetensors", "text_tower.safetensors"}:
        same = [(tmp_path / f / name).read_bytes() for f in ("copy", "again")]
        assert name == "config.json" or same[0] == same[1], name


def test_a_saved_model_has_checksums_and_a_stamp_of_versions(folder):
    assert verify_checksums(folder) == {}
    made = json.loads((folder / "made_with.json").read_text())
    assert made["torch"].startswith("2.")
    config = json.loads((folder / "config.json").read_text())
    assert "transformers_version" not in str(config)
    assert sorted(p.name for p in folder.parent.iterdir()) == ["model"]


def test_models_share_their_towers(tiny, tmp_path):
    tiny.save(tmp_path / "clap-mini")
    other = tiny.with_projection(torch.nn.Linear(tiny.width, DIM), name="other")
    assert other.audio_tower is tiny.audio_tower and other.name == "other"
    assert other.fingerprint() == tiny.fingerprint()
    folder = other.save(tmp_path / "other", towers="../clap-mini")
    assert not (folder / "audio_tower.safetensors").exists()
    loaded, clips = load_clap(folder), [noise(1)]
    torch.testing.assert_close(
        loaded.embed_audio(clips), other.embed_audio(clips), atol=1e-2, rtol=0
    )
    assert loaded.fingerprint() == load_clap(tmp_path / "clap-mini").fingerprint()
    with (tmp_path / "clap-mini" / "text_tower.safetensors").open("ab") as weights:
        weights.write(b"x")
    with pytest.raises(ValueError, match="text_tower.safetensors differs"):
        load_clap(folder)
    shutil.rmtree(tmp_path / "clap-mini")
    with pytest.raises(FileNotFoundError, match="clap-mini"):
        load_clap(folder)


def test_a_home_folder_is_found(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tiny.save("~/models/mine") == tmp_path / "models" / "mine"
    assert load_clap("~/models/mine").name == "mine"


def test_a_place_that_takes_no_files_is_found_before_weights_are_written(
    tiny, tmp_path
):
    (tmp_path / "file").write_text("here")
    with pytest.raises(OSError, match=r"made_with\.json was not written"):
        tiny.save(tmp_path / "file" / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_weights_that_overflow_16_bits_are_not_written(tmp_path):
    large = tiny_clap()
    large.text_tower.model.pooler.dense.weight[0, 0] = 70_000.0
    with pytest.raises(ValueError, match=r"infinite weights in text_tower.*65,504"):
        large.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------- damage, checksums
@pytest.mark.parametrize(
    "name", ["audio_tower.safetensors", "projections.safetensors", "config.json"]
)
def test_a_tampered_file_is_refused_by_its_name(folder, name):
    file = folder / name
    content = bytearray(file.read_bytes())
    content[-3] ^= 1  # one bit of the last weight, or of the text
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} differs from its checksum"):
        load_clap(folder)
    file.unlink()
    lost = "unknown model" if name == "config.json" else f"{name} is .*missing"
    with pytest.raises(ValueError, match=lost):
        load_clap(folder)


def test_a_bundled_model_needs_its_checksums(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("CLEPDG_DATA", str(tmp_path))
    target = tiny.save(tmp_path / "models" / "clap-mini")
    tiny.save(tmp_path / "models" / "clep-mini", towers="../clap-mini")
    assert load_clap("clap-mini").name == "clap-mini"
    assert load_clap("clep-mini").name == "clep-mini"
    (target / CHECKSUMS).unlink()
    for name in ("clap-mini", "clep-mini"):
        with pytest.raises(ValueError, match="clap-mini has.*SHA256SUMS is missing"):
            load_clap(name)


@pytest.mark.parametrize("change", ["size", "lost", "nan", "format", "cut"])
def test_weights_that_do_not_fit_are_refused(folder, change):
    file, message = folder / "projections.safetensors", "cannot be read as a CLAP"
    tensors, config = load_file(file), json.loads((folder / "config.json").read_text())
    if change == "size":
        config["audio_tower"]["d_model"] = 64
    elif change == "lost":
        del tensors["audio_projection.bias"]
    elif change == "nan":
        tensors["text_projection.linear1.bias"][0] = float("nan")
        message = "NaN or infinite weights in text_projection.linear1.bias"
    elif change == "format":
        config["format"], message = "clepdg-clap-9", "'clepdg-clap-9'.*'clepdg-clap-2'"
    save_file(tensors, file)
    (folder / "config.json").write_text(json.dumps(config))
    if change == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    write_checksums(folder)
    with pytest.raises(ValueError, match=message):
        load_clap(folder)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_pickled_weights_are_refused_and_never_run(folder, laion_folder, tmp_path):
    mark = tmp_path / "sprung"
    copied = shutil.copytree(laion_folder, tmp_path / "laion")
    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(FileNotFoundError, match="as a CLAP of safetensors"):
        load_clap(copied)
    (folder / CHECKSUMS).unlink()
    (folder / "text_tower.safetensors").write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(ValueError, match="model' cannot be read as a CLAP"):
        load_clap(folder)
    (folder / "text_tower.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="text_tower.safetensors"):
        load_clap(folder)
    assert not mark.exists()


# --------------------------------------------------------------- hub, names
def test_a_folder_in_the_layout_of_the_hub_gives_what_transformers_gives(laion_folder):
    clap = load_clap(laion_folder)
    assert clap.name == "laion" and clap.sample_rate == RATE
    model, tokenizer, extractor = laion_parts(RATE)
    model.requires_grad_(False)
    assert clap.logit_scale == pytest.approx(float(model.logit_scale_a.exp()))
    waves = [noise(1), noise(3, seed=1)]
    sound = extractor(
        [wave.numpy() for wave in waves], sampling_rate=RATE, return_tensors="pt"
    )
    text = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    text.pop("token_type_ids", None)
    with torch.no_grad():
        expected = model.get_audio_features(**sound).pooler_output
        expected_text = model.get_text_features(**text).pooler_output
    found = clap.project(clap.audio_tower.features(waves))
    unit_rows = torch.nn.functional.normalize(expected, dim=-1)
    torch.testing.assert_close(found, unit_rows, atol=1e-5, rtol=0)
    unit_rows = torch.nn.functional.normalize(expected_text, dim=-1)
    torch.testing.assert_close(clap.embed_text(SENTENCES), unit_rows, atol=1e-5, rtol=0)


def test_an_unknown_name_lists_the_valid_ones(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("CLEPDG_DATA", str(tmp_path))
    tiny.save(tmp_path / "models" / "clap-mini")
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in ("clap-mimi", str(tmp_path / "nowhere"), "clep-mini", "empty/folder"):
        with pytest.raises(ValueError, match=r"\['clap-mini'\].*laion/") as error:
            load_clap(name)
        assert repr(name) in str(error.value)


@pytest.mark.parametrize("name", ["nobody/no-such-clap", *REVISIONS])
def test_a_hub_name_without_a_network_is_one_clear_error(name, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="network") as error:
        load_clap(name)
    pin = f" --revision {REVISIONS[name]}" if name in REVISIONS else ""
    assert f"run `hf download {name}{pin}` once" in str(error.value)


# ------------------------------------------------------------------ bundled
def test_the_bundled_model_loads_quickly_and_quietly():
    if not (data_root() / "models" / "clap-mini" / "projections.safetensors").is_file():
        pytest.skip("no clap-mini here")
    code = (
        "import time, torch, transformers, clepdg_lib.clap as c\n"
        "state = torch.random.get_rng_state()\n"
        "start = time.process_time()\n"
        "clap = c.load_clap()\n"
        "print(time.process_time() - start, clap.dim, clap.width, clap.sample_rate)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True
    )
    assert run.stderr == ""
    seconds, *sizes = run.stdout.split()
    assert sizes == ["192", "512", "16000"]
    assert float(seconds) < 2  # a third of a second in truth


def test_sixteen_bits_change_little_and_have_features_of_their_own(tmp_path):
    plain, fast = (load_clap("clap-mini", bfloat16=narrow) for narrow in (False, True))
    corpus = load_corpus("emosynth").select(splits="test")
    clips = [corpus.read(i) for i in range(0, len(corpus), 8)]  # in all domains
    one, other = plain.embed_audio(clips), fast.embed_audio(clips)
    assert (one * other).sum(dim=1).min() > 0.9999 and not one.equal(other)
    assert plain.fingerprint() != fast.fingerprint()
    assert load_clap(fast.save(tmp_path / "a")).fingerprint() == plain.fingerprint()
