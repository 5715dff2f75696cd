"""Conversion of published weights into ours. Nothing in a file is ever executed."""
