"""Which files there are, what they show, and which belong together."""
