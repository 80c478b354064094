"""Training loops of other libraries over cairn's model directories and data, for those who have one running already."""
