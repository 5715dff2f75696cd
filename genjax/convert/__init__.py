"""Other people's weights, read into ours. Nothing in a file is ever executed."""
