"""Sources of one's own captions and pictures, one module per format."""
