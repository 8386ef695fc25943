"""From shards to a verdict: measure every row, ask expectations, compare with the accepted data."""
