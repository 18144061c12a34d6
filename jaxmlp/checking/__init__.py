"""Is this gradient right, and if not, what is wrong with it?"""

from jaxmlp.checking.batched import check_batched
from jaxmlp.checking.equal import check_equal
from jaxmlp.checking.gradient import assert_gradient, check_gradient, gradient_checker
from jaxmlp.checking.hessian import check_hessian_vector_product
from jaxmlp.checking.report import Explanation, LeafError, PointCheck, Report
from jaxmlp.checking.rules import check_custom_rule, check_jvp, check_vjp
from jaxmlp.checking.taylor import TaylorTest, taylor_test

__all__ = [
    "Explanation",
    "LeafError",
    "PointCheck",
    "Report",
    "TaylorTest",
    "assert_gradient",
    "check_batched",
    "check_custom_rule",
    "check_equal",
    "check_gradient",
    "check_hessian_vector_product",
    "check_jvp",
    "check_vjp",
    "gradient_checker",
    "taylor_test",
]
