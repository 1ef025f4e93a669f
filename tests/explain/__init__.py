"""Explanations of one answer."""
