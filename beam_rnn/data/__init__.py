"""What a record and a sequence mean: columns, vocabularies, times, scaling, padding."""
