"""What a trained network's answers are worth: figures, their intervals, and the out-of-fold table behind them."""
