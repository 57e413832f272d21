"""What several processes embed is one table, in order, whoever had bad luck."""

import contextlib
import warnings

import pandas as pd
import pytest
import torch

from clepdg_lib.audio import AudioError
from clepdg_lib.embedding import embed_corpus
from clepdg_lib.processes import Team
from clepdg_lib.sharing import embed_together

pytestmark = pytest.mark.usefixtures("private_cache")


class Member(Team):
    """One of several processes, all of which are played here one after the other."""

    def __init__(self, rank, size, told):
        self.rank, self.size, self.told = rank, size, told
        self.device = torch.device("cpu")

    def collect(self, own):
        self.told[self.rank] = own
        return [self.told[r] for r in sorted(self.told)]


def play(clap, corpus, size):
    told = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for rank in range(size - 1):
            # who found nothing may have fellows with more luck
            with contextlib.suppress(AudioError):
                embed_together(clap, corpus, team=Member(rank, size, told))
        return embed_together(clap, corpus, team=Member(size - 1, size, told))


@pytest.mark.parametrize("size", [1, 2, 3, 11])
def test_the_table_is_that_of_one_process(tiny_clap, feeling_corpus, size):
    corpus = feeling_corpus(n_each=2)
    for i in (2, 5):
        open(corpus.clips["path"].iloc[i], "wb").close()
    with pytest.warns(UserWarning, match="2 of 8"):
        alone = embed_corpus(tiny_clap, corpus)
    shared = play(tiny_clap, corpus, size)
    pd.testing.assert_frame_equal(shared.clips, alone.clips)
    torch.testing.assert_close(shared.embeddings, alone.embeddings, atol=1e-5, rtol=0)
    assert set(shared.problems["path"]) == set(alone.problems["path"])


def test_bad_files_alone_are_an_error(tiny_clap, feeling_corpus):
    corpus = feeling_corpus(n_each=1)
    for path in corpus.clips["path"]:
        open(path, "wb").close()
    with pytest.raises(AudioError, match="none of its 4 clips"):
        play(tiny_clap, corpus, 2)
