"""The HTTP server: requests in, batches drawn, limits kept."""
