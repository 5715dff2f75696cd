"""Editing: functions over images and over any model's pure verbs."""
