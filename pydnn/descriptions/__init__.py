"""Descriptions: parts that remember how they were made, and their written form."""
