"""Offline work: recipes, augmentation, fitting, grouped cross-validation."""
