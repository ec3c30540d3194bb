"""The whole contract asked of a function of a user's own: what it is taken for, and which trainings it must stand."""
