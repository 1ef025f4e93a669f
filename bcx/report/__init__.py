"""What is said about a model: its card, its figures, and whether they can be had again."""
