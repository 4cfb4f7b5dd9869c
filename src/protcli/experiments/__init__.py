"""What a user does: one file per task, each step in order."""
