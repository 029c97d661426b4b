"""What the gradient methods share: the loop, theta and its masks, the objective, and networks drawn from P(theta)."""
