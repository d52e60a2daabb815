"""Verifiers over what others have built. Each module has `make(**settings)`, which returns one:

    from tramontane_verifier.adapters import math_verify
    judge = math_verify.make()

What a service behind an adapter fails to answer is the verifier's failure (tried again, then the
sample is dropped), never a reward of 0.
"""
