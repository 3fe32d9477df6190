"""Many simulations beside each other: strategies x models x encoders x seeds, resumable, as a table and a plot.

plan.py says what is run, running.py runs it in child processes (each is cell.py), figures.py makes numbers of the
curves, tables.py writes them and plot.py draws them.
"""
