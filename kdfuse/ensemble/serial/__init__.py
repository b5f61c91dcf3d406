"""Serial: models one after another: cascades, chains, boosting."""
