"""The door to scikit-learn, the one library of this chapter: asked for when it is used, and named where it is missing.

The models that are written out here (linear and logistic regression, k-means) need NumPy alone. The survey compares them
with what everybody uses.

>>> library("tree").DecisionTreeClassifier(max_depth=2)
DecisionTreeClassifier(max_depth=2)
"""

import importlib
from types import ModuleType


def library(module: str) -> ModuleType:
    """sklearn.<module>."""
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        if error.name and error.name.split(".")[0] != "sklearn":
            raise
        raise ValueError("this needs scikit-learn: pip install 'cairn[foundations]'") from None
