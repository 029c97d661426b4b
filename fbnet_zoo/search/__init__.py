"""Search: predictors of cost, and one module for each method."""
