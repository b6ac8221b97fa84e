"""Descriptions: parts remember the call that made them, which can be written and read as text."""
