"""The subcommands of `task-migration`. Here is only parsing and printing; each step has a module of its own."""
