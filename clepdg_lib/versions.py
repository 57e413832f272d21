"""What made a result: the versions that a figure depends on.

Every result that the course writes carries them, so that two figures which differ can
be told apart by more than their difference.

Lesson: none; results, embeddings and models are stamped so.
"""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "torch",
    "torchaudio",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "soundfile",
    "soxr",
)


def versions() -> dict[str, str]:
    """Versions of Python, of the packages that compute, and of this library's code.

    Nothing tells who or where: no path, no name of a machine or of a person.

    Example:
        >>> sorted(versions())[:3]
        ['clepdg_lib', 'code', 'libsndfile']
    """
    found = {
        "clepdg_lib": _version("clepdg-lib"),
        "code": _code(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    found |= {name: _version(name) for name in PACKAGES}
    found["libsndfile"] = _libsndfile()
    return found


def describe_machine() -> dict[str, str | int]:
    """What seconds depend on: the kind of processor, threads, torch, Python."""
    import torch

    return {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def processor_name() -> str:
    """Name and number of the machine's processors."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        if lines:
            name = f"{lines[0].partition(':')[2].strip()}, {len(lines)} cores"
    return name


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _libsndfile() -> str:
    try:
        import soundfile
    except (ImportError, OSError):
        return "not installed"
    return soundfile.__libsndfile_version__


@functools.cache
def _code() -> str:
    """Hash of the library's own source: 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]
