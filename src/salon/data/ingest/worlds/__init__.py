"""Worlds that are rendered: captioned pictures with exact ground truth."""
