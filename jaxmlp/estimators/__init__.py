"""Estimators for scikit-learn, trained as scikit-learn trains its perceptrons; of the extra `sklearn`."""
