"""Where the network looked: colours for class maps, and how to lay them over a scan."""
