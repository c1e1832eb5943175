"""The page results/report/index.html: one file that holds everything it shows, and fetches nothing."""
