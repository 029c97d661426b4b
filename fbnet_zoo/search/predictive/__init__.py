"""Search by prediction: predictors of accuracy and cost, and the genetic search that they steer."""
