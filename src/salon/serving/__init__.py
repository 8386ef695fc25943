"""Names of the release before: models registered by it import them."""
