"""All planted faults, and the problems that right gradients share with them."""

from experiments.benchmarks.gradients import (
    faults_in_arithmetic,
    faults_in_formulas,
    faults_in_networks,
    faults_in_rules,
    faults_that_change,
)
from experiments.benchmarks.gradients.fault import Fault, Problem

__all__ = ["FAULTS", "PROBLEMS"]

PROBLEMS: dict[str, Problem] = {
    "quadratic": faults_in_formulas.quadratic,
    "logistic regression": faults_in_formulas.logistic,
    "log-sum-exp": faults_in_formulas.log_sum_exp,
    "log-determinant": faults_in_formulas.log_determinant,
    "linear solve": faults_in_formulas.solve,
    "layer norm": faults_in_formulas.layer_norm,
    "attention": faults_in_formulas.attention,
    "convolution": faults_in_formulas.convolution,
    "pendulum": faults_in_formulas.pendulum,
    "network with decay": faults_in_networks.decayed_net,
    "NumPy, called back": faults_in_formulas.called_back,
    "network in float32": faults_in_arithmetic.single_net,
    "logistic regression in float32": faults_in_arithmetic.single_logistic,
    "log-variance": faults_in_arithmetic.log_variance,
    "large logits": faults_in_arithmetic.large_logits,
    "small angles": faults_in_arithmetic.small_angles,
    "small lengths": faults_in_arithmetic.small_lengths,
    "flattening": faults_in_arithmetic.flattening,
    "saturated": faults_in_arithmetic.saturated,
}

FAULTS: tuple[Fault, ...] = (
    *faults_in_networks.FAULTS,
    *faults_in_formulas.FAULTS,
    *faults_in_rules.FAULTS,
    *faults_in_arithmetic.FAULTS,
    *faults_that_change.FAULTS,
)
