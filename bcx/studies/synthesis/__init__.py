"""Generated scans: adversarial networks per class, what their pictures are worth, whether they help a classifier."""
