"""From rows to standardised sufficient statistics, of one data set or many, and draws of both."""
