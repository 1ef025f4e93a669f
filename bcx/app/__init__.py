"""The page: what a person asks becomes one call of the engine, and its answer becomes words and images."""
