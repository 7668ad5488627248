"""The main job: prepare a run, fill the eligible rows, account for every row."""
