"""Networks and formulas that several methods use as they are."""
