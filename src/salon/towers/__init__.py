"""The contrastive towers (CLIP) and what follows from them: text states, directions of words, search."""
