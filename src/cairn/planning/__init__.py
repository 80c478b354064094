"""What a run will cost before it starts: parameters, memory, time, money, layouts, scaling laws, launch files."""
