"""What happened, for a person to look at: a rehearsal's or a real run's story, and the one page that shows it."""
