"""Fixtures of several test modules."""

import pytest

from beam_rnn import Predict


@pytest.fixture(params=[None, 3], ids=["keys", "shards"])
def each_way(request, monkeypatch):
    """Run `Predict` key by key and in shards: the results are the same."""
    defaults = {**Predict.__init__.__kwdefaults__, "shards": request.param}
    monkeypatch.setattr(Predict.__init__, "__kwdefaults__", defaults)
    return request.param
