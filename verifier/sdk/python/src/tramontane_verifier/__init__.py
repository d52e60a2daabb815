"""Write a Tramontane verifier as one Python function. See README.md."""
from tramontane_verifier.spec import Spec, verifier

__all__ = ["Spec", "verifier"]
