"""Criteria: what decides which weights, units or layers go."""
