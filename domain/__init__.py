"""The rules of recommending jobs: standard library and numpy only."""
