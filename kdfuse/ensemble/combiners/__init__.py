"""Combiners: Keras layers that make one prediction of several."""
