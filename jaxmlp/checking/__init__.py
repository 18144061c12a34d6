"""Is this gradient right, and if not, what is wrong with it?

All checks use these names:

    f         a function of `params` that returns a scalar; for derivative rules a function of `args` that returns any
              tree of floating arrays
    gradient  a function of `params` that returns a tree like them
    params    a tree of finite arrays of any floating dtype; float64 only if x64 is on
    args      trees of finite floating arrays; integers, booleans and keys among them stay fixed
    seed      seed of all random numbers: the same seed gives the same report

A check returns a `Report`, true if and only if what it checks is right; `print` it. It raises a ValueError for other
arguments, for a value of f that is not finite, and for a gradient or rule that returns wrong shapes. Errors of the
user's functions are raised with a note. JAX's x64 setting is always restored.
"""

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
