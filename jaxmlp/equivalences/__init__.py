"""What of this library must equal what, as a table: the library checks itself by the means that it offers to others."""

from jaxmlp.equivalences.library import Claim, Equivalence, networks, of_library, of_model, rounding_units

__all__ = ["Claim", "Equivalence", "networks", "of_library", "of_model", "rounding_units"]
