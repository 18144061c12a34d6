"""Is this gradient right, and if not, what is wrong with it?"""

from jaxmlp.checking.batched import check_batched
from jaxmlp.checking.gradient import assert_gradient, check_gradient
from jaxmlp.checking.report import Explanation, LeafError, PointCheck, Report
from jaxmlp.checking.rules import check_custom_rule, check_hessian_vector_product, check_jvp, check_vjp

__all__ = [
    "Explanation",
    "LeafError",
    "PointCheck",
    "Report",
    "assert_gradient",
    "check_batched",
    "check_custom_rule",
    "check_gradient",
    "check_hessian_vector_product",
    "check_jvp",
    "check_vjp",
]
