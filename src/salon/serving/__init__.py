"""A registered method behind HTTP."""
