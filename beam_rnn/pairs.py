"""Sequence to sequence: an encoder reads n symbols, a decoder writes m others."""

from beam_rnn.data.pair_columns import Pair, PairColumns
from beam_rnn.models.transducer import Transducer
from beam_rnn.nn.encoder_decoder import ATTENTIONS, EncoderDecoder
from beam_rnn.records.results import Transduced
from beam_rnn.transforms.transduce import Pairs, Transduce

__all__ = [
    "ATTENTIONS",
    "EncoderDecoder",
    "Pair",
    "PairColumns",
    "Pairs",
    "Transduce",
    "Transduced",
    "Transducer",
]
