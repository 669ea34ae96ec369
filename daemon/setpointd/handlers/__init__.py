"""What the commands do: one module per noun. ``table.py`` says which command runs which function."""
