"""Int8 TensorFlow Lite files for the compiler of Arm Ethos-U."""
