"""The shard graph: who reads whom, where a sample goes, and what forgetting costs. No torch."""
