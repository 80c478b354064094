"""Learning without a framework: NumPy alone, read like a book, each chapter a folder."""
