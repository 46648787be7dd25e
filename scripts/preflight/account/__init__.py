"""What the account has, by its APIs, against what a stack's file says: before the first `up` as after it. The door is `run`."""
