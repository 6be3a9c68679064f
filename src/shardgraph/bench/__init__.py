"""The comparison: accuracy against what forgetting takes, for this package and for its rivals."""
