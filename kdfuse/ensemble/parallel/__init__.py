"""Parallel: members that all see the same inputs, or one model averaged from several."""
