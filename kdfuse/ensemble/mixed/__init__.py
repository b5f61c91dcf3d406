"""Mixed: models that learn how others are combined: stacking and gates."""
