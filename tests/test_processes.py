"""Two processes learn what one learns, and embed every clip once."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from clepdg_lib.files import PROJECT
from clepdg_lib.processes import Team

TRAINING = """
import json, sys
import numpy as np, torch
from clepdg_lib.clap import load_clap
from clepdg_lib.contrast import Aspect, Recipe, train_towers
from clepdg_lib.processes import Team

model, out = sys.argv[1:]
clap = load_clap(model)
for module in clap.model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0  # each process draws its own
draw = np.random.default_rng(0)
labels = draw.integers(0, 2, 20)
mels = draw.normal(size=(20, 2, 251, 64)) * 5 - 40 + 10 * labels[:, None, None, None]
tuned = train_towers(
    clap,
    mels.astype(np.float16),
    [Aspect("emotion", (("they are sad",), ("a shouting voice",)), labels)],
    recipe=Recipe(
        epochs=4, batch_size=8, learning_rate=3e-4, tower_share=1.0, probe_steps=3,
        text_learning_rate=1e-4, precision="float32",
    ),
    targets=draw.normal(size=(20, 3)).astype(np.float32),
    progress=False,
)
team = Team()
if team.leads:
    tuned.save(out)
    print(json.dumps({"size": team.size, "losses": list(tuned.history["loss"])}))
"""


LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone"],
    "accelerate": [
        *("accelerate.commands.launch", "--multi_gpu", "--num_machines=1"),
        *("--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"),
    ],
}
STARTS = {"torchrun": "--nproc-per-node", "accelerate": "--num_processes"}


def run(*command, processes=1, launcher="torchrun"):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    if processes > 1:
        launch = LAUNCHERS[launcher]
        command = ("-m", *launch, f"{STARTS[launcher]}={processes}", *command)
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_two_processes_learn_what_one_learns(tiny_clap_folder, tmp_path):
    from safetensors.torch import load_file

    script = tmp_path / "train.py"
    script.write_text(TRAINING)
    told, weights = [], []
    for n in (1, 2):
        out = tmp_path / str(n)
        printed = run(script, tiny_clap_folder, out, processes=n)
        told.append(json.loads(printed.splitlines()[-1]))
        weights.append(load_file(out / "model.safetensors"))
    assert [each["size"] for each in told] == [1, 2]
    # 3 steps of probing and 4 epochs of 3 steps
    np.testing.assert_allclose(told[0]["losses"], told[1]["losses"], atol=1e-5)
    start = load_file(tiny_clap_folder / "model.safetensors")
    n_moved = 0
    for name, tensor in weights[0].items():
        if name.endswith("key.bias"):
            continue  # it changes no attention: its gradient is rounding, made a step
        torch.testing.assert_close(tensor, weights[1][name], atol=1e-5, rtol=0)
        n_moved += bool((tensor - start[name]).abs().max() > 1e-4)
    assert n_moved > 10  # and there was something to compare


def test_two_processes_embed_each_clip_once(
    tiny_clap_folder, feeling_corpus, tmp_path, monkeypatch
):
    corpus = feeling_corpus(n_each=2, domains=("here",))
    bad = corpus.clips["path"].iloc[2]
    with open(bad, "wb"):
        pass  # one that cannot be read
    table = tmp_path / "clips.csv"
    corpus.clips.to_csv(table, index=False)
    found = []
    for n in (1, 2):
        out = tmp_path / f"{n}.npz"
        monkeypatch.setenv("CLEPDG_CACHE", str(tmp_path / f"cache-{n}"))
        line = ["embed", "--model", tiny_clap_folder, "--corpus", table, "--out", out]
        run("-m", "clepdg_lib", *line, processes=n, launcher="accelerate")
        with np.load(out, allow_pickle=False) as arrays:
            found.append({name: arrays[name] for name in arrays.files})
    one, two = found
    assert len(one["clip"]) == len(corpus) - 1
    assert one.keys() == two.keys()
    for name in one.keys() - {"embeddings", "made_with"}:
        assert list(one[name]) == list(two[name]), name
    np.testing.assert_allclose(one["embeddings"], two["embeddings"], atol=1e-5)


def test_alone_nothing_is_exchanged(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    team = Team()
    assert (team.rank, team.size, team.leads) == (0, 1, True)
    rows = torch.ones(3, 2, requires_grad=True)
    assert team.gather(rows) is rows
    assert team.collect({"a": 1}) == [{"a": 1}]
    team.average_gradients([torch.nn.Parameter(torch.ones(1))])
    team.wait()


def test_a_batch_that_does_not_divide_is_refused():
    team = Team()
    team.rank, team.size = 1, 3
    assert team.share(9) == slice(3, 6)
    with pytest.raises(ValueError, match="10 clips.*3 processes.*multiple of 3"):
        team.share(10)


@pytest.mark.parametrize("screen", [True, False])
def test_a_log_gets_a_line_an_epoch_and_a_screen_a_bar(
    tiny_clap, monkeypatch, capsys, screen
):
    from clepdg_lib import contrast

    monkeypatch.setattr(contrast, "has_screen", lambda: screen)
    contrast.train_towers(
        tiny_clap,
        np.zeros((4, 1, 251, 64), np.float16),
        [contrast.Aspect("emotion", (("sad",), ("angry",)), np.array([0, 1, 0, 1]))],
        recipe=contrast.Recipe(epochs=2, batch_size=2, probe_steps=0),
    )
    told = capsys.readouterr().err
    assert ("training: " in told) == screen
    assert ("of 2 epochs: epoch 2, loss" in told) != screen
