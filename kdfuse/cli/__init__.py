"""The command `kdfuse`."""
