"""What wants a GPU: checks, measurements and tables. `make gpu` runs it; README.md beside this says how."""
