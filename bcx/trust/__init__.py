"""What an answer is worth: calibrated probabilities, and whether the picture is a scan at all."""
