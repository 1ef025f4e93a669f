"""The command line: each command translates what a person asks into one call, and the answer into text."""
