"""What is said about a model (its card, its figures, whether they can be had again) and about an answer (its sheet)."""
