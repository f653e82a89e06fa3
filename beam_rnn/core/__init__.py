"""What every package uses: errors, checks, arrays, text. It imports nothing else of the library."""
