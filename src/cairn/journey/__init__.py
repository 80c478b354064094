"""The capstone: one command from text to an assistant and its report."""
