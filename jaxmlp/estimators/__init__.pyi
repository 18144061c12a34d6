from ._side_by_side import side_by_side as side_by_side
from .classifier import MLPClassifier as MLPClassifier
from .regressor import MLPRegressor as MLPRegressor
from .search import GridSearchCV as GridSearchCV
from .search import HalvingGridSearchCV as HalvingGridSearchCV
from .search import HalvingRandomSearchCV as HalvingRandomSearchCV
from .search import RandomizedSearchCV as RandomizedSearchCV
