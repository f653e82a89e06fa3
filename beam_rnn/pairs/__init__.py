"""Pairs of sequences: an encoder reads one, a decoder writes another, of any length.

Which fields of a record are a pair (`columns`), what is trained on pairs (`encoder_decoder`), how
the decoder looks back at the source (`attention`), forward, back and one update of training
(`transduction`), how a target is written (`decoding`), and the model that does (`transducer`). On
the way to training pairs become indices (`examples`); on the Beam side they come from records
(`records`), and targets are written for them (`transducing`).
"""
