"""The model registry: versions, who becomes champion, and what a server asks of it."""
