"""How sure a number is: intervals, paired tests, ranks and the images a difference needs.

Plain functions of vectors; numpy and SciPy only.
"""
