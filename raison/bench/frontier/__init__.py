"""`raison frontier`: the three scaling laws measured on one machine, and where the next dollar should go.

grid.py what is asked; cells.py one trained model each; sharing.py budgets and votes from shared samples; record.py what
a cell keeps; workshop.py makes and measures a cell; forecast.py how long it takes; laws.py the curves, fitting.py how
they are found; prices.py what each law costs; allocate.py the best split; run.py all in order; check.py the split put
to the test; result.py, pictures.py, words.py, page.py what comes out. Not covered: laws over the difficulty of a task,
several machines.
"""
