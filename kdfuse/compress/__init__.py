"""Compression: pruning, shrinking, quantization and clustering, each a technique."""
