"""What several builders are made of."""
