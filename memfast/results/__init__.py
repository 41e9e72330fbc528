"""What the uses of memfast found, as typed values: they make them, reports and commands read them, JSON holds them."""
