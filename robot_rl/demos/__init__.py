"""Data sets of demonstrations: made by scripted people, looked at, checked, cut, converted, replayed, scored."""
