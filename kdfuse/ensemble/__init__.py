"""Ensembles: parallel, serial and mixed, each of them a `keras.Model`."""
