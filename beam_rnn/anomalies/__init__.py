"""How surprising records are: the errors of a forecast, judged by the tail of those before.

The tail of a key's errors and what it makes of one more (`tails`), the bytes in which it is kept
beside what predicts (`scored`), and what turns predictions into scores, key by key (`scoring`).
"""
