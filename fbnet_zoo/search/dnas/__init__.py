"""FBNet's method: a stochastic supernet with all candidate blocks of every layer."""
