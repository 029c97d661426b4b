"""Model -> file: one module per format, and the checks that each file computes what the model computes."""
