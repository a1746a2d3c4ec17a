"""The language of formulas: words, expressions over columns, and the algebra of terms."""
