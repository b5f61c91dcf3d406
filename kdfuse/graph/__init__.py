"""What several ideas do to a model: copies, fingerprints, heads, costs."""
