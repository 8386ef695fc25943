"""Pages and sentences about figures that others measured."""
