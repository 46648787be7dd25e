"""The monolith's schema and seeded rows in it. The door is `fill`."""
