"""Search: the settings of a builder and a technique that do best on the validation split, scikit-learn style."""
