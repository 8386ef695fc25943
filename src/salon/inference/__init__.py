"""A registered model, loaded: its bundle, its prompts, its pictures and what they say of themselves."""
