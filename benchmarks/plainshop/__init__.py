"""The same shop without factories."""
