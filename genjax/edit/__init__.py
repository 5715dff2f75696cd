"""Editing: functions of images, and of the verbs of any model."""
