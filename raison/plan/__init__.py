"""What a model would need and cost before anything is bought: serving, training, energy, money. Imports no torch.

Chips and calibrations are data (figures/); a prediction is an interval with its assumptions named. Not covered:
measuring (bench), cost arithmetic of a shape (model/cost.py).
"""
