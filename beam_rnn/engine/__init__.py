"""Inference over many keys without Beam: the rules of order, the table of a shard, the steppers."""
