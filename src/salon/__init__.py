"""Salon: five text-to-image methods, one set of captions, equal budgets, an honest jury."""

__version__ = "0.1.0"
