"""What tests in several modules run through."""

import pytest

from beam_rnn import Predict


@pytest.fixture(params=[None, 3], ids=["keys", "shards"])
def each_way(request, monkeypatch):
    """`Predict` steps each key alone, or the keys of a shard together: the same comes out."""
    defaults = {**Predict.__init__.__kwdefaults__, "shards": request.param}
    monkeypatch.setattr(Predict.__init__, "__kwdefaults__", defaults)
    return request.param
