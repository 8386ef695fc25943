"""Captioned pictures as rows of one schema: what every stage shares."""
