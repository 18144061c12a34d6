from .classifier import MLPClassifier as MLPClassifier
from .regressor import MLPRegressor as MLPRegressor
