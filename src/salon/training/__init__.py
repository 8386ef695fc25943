"""Training: one Lightning module and one Trainer."""
