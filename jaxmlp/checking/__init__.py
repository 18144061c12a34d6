"""Is this gradient right, and if not, what is wrong with it?

All checks use these names:

    f         a function of `params` that returns a scalar; for derivative rules a function of `args` that returns any
              tree of floating arrays
    gradient  a function of `params` that returns a tree like them
    params    a tree of finite arrays of any floating dtype; float64 only if x64 is on
    args      trees of finite floating arrays; integers, booleans and keys among them stay fixed
    seed      seed of all random numbers: the same seed gives the same report

What a verdict rests on. The values of f are the evidence, and autodiff is a witness. Slopes of f are differences at up
to nine steps, extrapolated; their error is estimated from the table of extrapolations, from the rounding of f's own
operations carried to first order, and by a second table with other steps. Autodiff in float64, of f's own steps without
custom rules, is believed where these slopes confirm it within their error, along random directions at every point that
is checked. The gradient is then compared with it, element by element. Where they disagree by more than 64 roundings, f
is measured along the disagreement, and what it says is final: it may refute the gradient (wrong) or autodiff (then
differences alone decide). Only a disagreement that f cannot resolve can be explained by rounding. A kink is the one
exception: there a gradient is right if it is a mixture of those beside the point, whatever autodiff returns at it.

No evidence is excused away, because f bounds each excuse: the rounding that is assumed of a program flips no decision
in it, an error that is not finite allows nothing, and a slope whose error exceeds a tenth of the gradient and of f's
own changes is no evidence: the verdict is then "undecided", with the reason. So it is where f itself jumps. Where tiny
steps do not move f and large ones agree on a slope (a solver that stops at a tolerance), that slope is f's, and a
gradient of 0 is undecided. "Right" states the smallest fault that the differences see: `resolution`.

Conventions. Every element of a parameter varies on its own: the gradient of a function that reads one triangle of a
matrix is 0 in the other. A random draw with a fixed key is a function like others, with the derivative that JAX
defines.

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
