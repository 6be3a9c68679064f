"""Sweeps over faults of machine and disk: programs, of which tests run bounded forms."""
