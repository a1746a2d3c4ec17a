"""How right: nominal behaviour, power, type-I error, optima, hostile input, mutants, soak."""
