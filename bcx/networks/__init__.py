"""Networks: timm backbones with their heads, ensembles, and class maps that add up to the logits."""
