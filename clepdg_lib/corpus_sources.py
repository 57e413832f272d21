"""Which corpora are known, whose they are, and where they lie on this machine.

Lesson: notebooks/06_scale_up.ipynb
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clepdg_lib.corpus_findings import CorpusError, Findings
from clepdg_lib.corpus_readers import (
    read_cremad,
    read_emodb,
    read_emogator,
    read_ravdess,
    read_savee,
    read_tess,
)
from clepdg_lib.corpus_tables import (
    read_csv,
    read_folder,
    read_iemocap,
    read_meld,
    read_nemo,
)
from clepdg_lib.files import data_root


@dataclass(frozen=True)
class Archive:
    """A zip that the owners let anybody fetch.

    `known_hash` ("md5:..." or "sha256:...") and `n_bytes` are None where the owners
    publish none: then whoever downloads must bring the hash.
    """

    url: str
    known_hash: str | None = None
    n_bytes: int | None = None


@dataclass(frozen=True)
class Source:
    """A published corpus: its owners' words about it, and how its folder is read."""

    title: str
    language: str
    licence: str
    citation: str
    page: str
    read: Callable[[Path], Findings]
    folders: tuple[str, ...] = ()
    archive: Archive | None = None


def _read_emosynth(root: Path) -> Findings:
    return read_csv(root / "clips.csv")


CORPORA: dict[str, Source] = {
    "emosynth": Source(
        title="emosynth: synthetic emotional speech in five acoustic domains",
        language="English",
        licence="see data/emosynth/README.md",
        citation="bundled with this course",
        page="data/emosynth/README.md",
        read=_read_emosynth,
    ),
    "ravdess": Source(
        title="Ryerson Audio-Visual Database of Emotional Speech and Song (speech)",
        language="English",
        licence="CC BY-NC-SA 4.0",
        citation="Livingstone & Russo (2018), PLoS ONE 13(5): e0196391",
        page="https://zenodo.org/records/1188976",
        read=read_ravdess,
        folders=("Audio_Speech_Actors_01-24",),
        archive=Archive(
            "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip",
            known_hash="md5:bc696df654c87fed845eb13823edef8a",
            n_bytes=208_468_073,
        ),
    ),
    "tess": Source(
        title="Toronto emotional speech set",
        language="English",
        licence="CC BY-NC-ND 4.0",
        citation="Pichora-Fuller & Dupuis (2020), doi:10.5683/SP2/E8H2MF",
        page="https://doi.org/10.5683/SP2/E8H2MF",
        read=read_tess,
        folders=("TESS Toronto emotional speech set data",),
    ),
    "emodb": Source(
        title="Berlin Database of Emotional Speech (EMO-DB)",
        language="German",
        licence="free for research",
        citation="Burkhardt et al. (2005), Interspeech, 1517-1520",
        page="http://emodb.bilderbar.info",
        read=read_emodb,
        folders=("emo-db", "berlin"),
        archive=Archive("https://emodb.bilderbar.info/download/download.zip"),
    ),
    "nemo": Source(
        title="nEMO: Polish emotional speech",
        language="Polish",
        licence="CC BY-NC-SA 4.0",
        citation="Christop (2024), LREC-COLING, 12111-12116",
        page="https://github.com/amu-cai/nEMO",
        read=read_nemo,
    ),
    "cremad": Source(
        title="Crowd-sourced Emotional Multimodal Actors Dataset (CREMA-D)",
        language="English",
        licence="Open Database License 1.0",
        citation="Cao et al. (2014), IEEE Trans. Affective Computing 5(4), 377-390",
        page="https://github.com/CheyneyComputerScience/CREMA-D",
        read=read_cremad,
        folders=("CREMA-D", "CREMA-D-master"),
    ),
    "savee": Source(
        title="Surrey Audio-Visual Expressed Emotion",
        language="English",
        licence="free for research, after registration",
        citation="Haq & Jackson (2009), AVSP, 53-58",
        page="http://kahlan.eps.surrey.ac.uk/savee/",
        read=read_savee,
        folders=("AudioData",),
    ),
    "iemocap": Source(
        title="Interactive Emotional Dyadic Motion Capture",
        language="English",
        licence="by signed agreement with the owners",
        citation="Busso et al. (2008), Language Resources and Evaluation 42, 335-359",
        page="https://sail.usc.edu/iemocap/",
        read=read_iemocap,
        folders=("IEMOCAP_full_release",),
    ),
    "meld": Source(
        title="Multimodal EmotionLines Dataset (dialogues of a television series)",
        language="English",
        licence="GPL-3.0 for the annotations; the recordings are a broadcaster's",
        citation="Poria et al. (2019), ACL, 527-536",
        page="https://github.com/declare-lab/MELD",
        read=read_meld,
        folders=("MELD.Raw",),
    ),
    "emogator": Source(
        title="EmoGator: vocal bursts in 30 emotion categories",
        language="",
        licence="Apache-2.0",
        citation="Buhl (2023), arXiv:2301.00508",
        page="https://github.com/fredbuhl/EmoGator",
        read=read_emogator,
        folders=("EmoGator-main",),
    ),
}


def find_corpus(name: str, *, root: str | Path | None = None) -> Path:
    """Find a corpus's folder: `root`, else under `$CLEPDG_CORPORA`, else bundled.

    `root` may be the corpus's folder or a folder holding it. Folder names are
    compared without regard to case.

    Raises:
        CorpusError: It is nowhere; the message lists where it was looked for.
    """
    source = CORPORA[name]
    names = {name, *(folder.lower() for folder in source.folders)}
    looked = []
    base = root or os.environ.get("CLEPDG_CORPORA")
    if base:
        base = Path(base).expanduser().absolute()
        if base.is_dir():
            for folder in sorted(base.iterdir()):
                if folder.name.lower() in names and folder.is_dir():
                    return folder
            if root:
                return base
        looked.append(f"{base} (for {sorted(names)})")
    if name == "emosynth" and not root:
        bundled = data_root() / name
        if bundled.is_dir():
            return bundled
        looked.append(str(bundled))
    raise CorpusError(
        f"corpus {name!r} was not found; looked in: {', '.join(looked) or 'nowhere'}. "
        f"Set CLEPDG_CORPORA to the folder that holds it, or pass root=. "
        f"Get it from {source.page} ({source.licence})."
    )


def read_own(
    path: str | Path, *, root: str | Path | None = None
) -> tuple[Path, str, Findings]:
    """Read a folder or csv of one's own.

    Returns:
        Its folder, its name, and what was found.

    Raises:
        CorpusError: There is no such folder or csv, and no corpus of that name.
    """
    path = (Path(root or "") / Path(path).expanduser()).absolute()
    table = path / "clips.csv" if os.path.isfile(path / "clips.csv") else path
    if table.suffix.lower() == ".csv" and os.path.isfile(table):
        named = path if table != path or path.stem != "clips" else path.parent
        return table.parent, named.stem, read_csv(table)
    if os.path.isdir(path):
        return path, path.name, read_folder(path)
    raise CorpusError(
        f"unknown corpus {path.name!r}: no folder and no csv is at {path}, and "
        f"the corpora known by name are {', '.join(CORPORA)}"
    )
