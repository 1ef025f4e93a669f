"""One module or sub-room per question that bcx answers with an experiment."""
