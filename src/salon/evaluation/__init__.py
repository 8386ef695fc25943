"""What a method is asked, and how fast it answers: shared by the evaluate stage and the sentinels."""
