"""What an answer is worth: calibrated probabilities, and whether the image is a scan at all."""
