"""Dataset and labels to a prediction, one family a file. Models know rows and class codes: no ids, no questions."""
