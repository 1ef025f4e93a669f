"""From input files to answers: the classifier, its two stages, the prediction, the rows of a table."""
