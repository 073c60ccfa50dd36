"""The panels: they read what is chosen, call core and add layers."""
