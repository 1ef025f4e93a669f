"""Generated scans: adversarial networks per class, what their images are worth, whether they help a classifier."""
