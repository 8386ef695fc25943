"""Where captions and pictures come from. Each source yields rows of the design's schema."""
