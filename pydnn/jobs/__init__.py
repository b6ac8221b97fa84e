"""Jobs: a recipe and its data, built, trained and turned into a model."""
