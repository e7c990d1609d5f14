"""One model for each construct that a row can be made of, each with a factory and without."""
