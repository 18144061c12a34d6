"""Multilayer perceptrons as pure functions in JAX."""
