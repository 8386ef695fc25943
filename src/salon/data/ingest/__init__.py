"""From sources to shards: read, clean, assign to splits, write."""
