"""Comparison: the runs of an experiment as one table, one page and one saved view of MLflow."""
