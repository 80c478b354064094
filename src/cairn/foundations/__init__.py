"""Learning without a framework: NumPy alone, read like a book, each chapter a folder.

>>> from cairn.foundations.chapters import CHAPTERS
>>> list(CHAPTERS)[:3]
['scalar', 'descent', 'tensor']
"""
