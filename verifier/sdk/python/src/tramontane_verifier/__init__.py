"""Write a Tramontane verifier as one Python function. See README.md."""
from tramontane_verifier.spec import Spec, rubric, verifier
from tramontane_verifier.styles import BadInput

__all__ = ["BadInput", "Spec", "rubric", "verifier"]
